import type { FileEntry, FileList } from '@perch/protocol';
import { bodyOf, collect, type Source, wholeBody } from './bytes.ts';
import type { Http, RequestOptions } from './http.ts';
import { itemsOf } from './pages.ts';
import { FileWatch, type WatchOptions } from './watch.ts';

export interface Download {
  stream: ReadableStream<Uint8Array>;
  /** Bytes to come; undefined for a file that does not know, such as one of /proc. */
  size: number | undefined;
  /** Permission bits. */
  mode: number | undefined;
  /** RFC 3339, up to nanoseconds. */
  modified_at: string | undefined;
}

export interface FilePage {
  /** At most 1000; 100 by default. */
  limit?: number | undefined;
  /** `next_cursor` of the page before. */
  cursor?: string | undefined;
}

export interface WriteOptions extends RequestOptions {
  /**
   * Permission bits, at most 0o777. Default: those of the file that is written over, which gets only those that it had;
   * else 0o644.
   */
  mode?: number | undefined;
  /** When the content was last modified; as text RFC 3339, up to nanoseconds. Default: now. */
  modifiedAt?: Date | string | undefined;
}

/** Files of a sandbox. Relative paths start at the user's home. */
export class Files {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** Replaces the file, once all of it has come. Any size. A file that is written over keeps its owner and group. */
  async write(id: string, path: string, source: Source, how: WriteOptions = {}): Promise<void> {
    const { mode, modifiedAt, ...options } = how;
    const mtime = modifiedAt instanceof Date ? modifiedAt.toISOString() : modifiedAt;
    let sourceError: { error: unknown } | undefined;
    const body = bodyOf(source, (error) => {
      sourceError = { error };
    });
    try {
      await this.#http.done('POST', `${at(id)}/stream/write`, {
        ...options,
        query: { path, mode: mode?.toString(8), mtime },
        body,
        headers: { 'content-type': 'application/octet-stream' },
        endless: true,
      });
    } catch (error) {
      throw sourceError ? sourceError.error : error;
    }
  }

  /** The whole file, in memory. */
  async read(id: string, path: string, options: RequestOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const { stream } = await this.download(id, path, options);
    return collect(stream);
  }

  async readText(id: string, path: string, options: RequestOptions = {}): Promise<string> {
    return new TextDecoder().decode(await this.read(id, path, options));
  }

  /** The file as it comes. The stream fails with transfer_interrupted when it breaks off. */
  async download(id: string, path: string, options: RequestOptions = {}): Promise<Download> {
    const answer = await this.#http.send('GET', `${at(id)}/stream/read`, {
      ...options,
      query: { path },
      endless: true,
    });
    const mode = answer.header('perch-mode');
    return {
      ...wholeBody(answer, path, options.signal),
      mode: mode === undefined ? undefined : Number.parseInt(mode, 8),
      modified_at: answer.header('perch-mtime'),
    };
  }

  /**
   * A directory with all that is below, as a tar stream. Its names and links are those of the guest: unpack it with care.
   * It lies no more than `limits.archive.depth` directories deep. What goes wrong on the way is the error of the stream,
   * such as file_io_failed with the path of a file; it is transfer_interrupted when nobody could tell, and where there are
   * no trailers of HTTP, such as in a browser.
   * @throws PerchError file_not_found, not_a_directory, agent_too_old
   */
  async archive(id: string, path: string, options: RequestOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const request = { ...options, query: { path }, endless: true, trailers: true };
    const answer = await this.#http.send('GET', `${at(id)}/archive`, request);
    return wholeBody(answer, path, options.signal).stream;
  }

  /** @throws PerchError file_not_found */
  async stat(id: string, path: string, options: RequestOptions = {}): Promise<FileEntry> {
    return this.#http.json<FileEntry>('GET', `${at(id)}/stat`, {
      ...options,
      query: { path },
      repeatable: true,
    });
  }

  /** One page of a directory, by name. */
  list(id: string, path: string, page: FilePage = {}, options: RequestOptions = {}): Promise<FileList> {
    const { limit, cursor } = page;
    const query = { path, limit, cursor };
    return this.#http.json<FileList>('GET', at(id), { ...options, query, repeatable: true });
  }

  /** All pages. */
  all(id: string, path: string, options: RequestOptions = {}): AsyncGenerator<FileEntry> {
    return itemsOf((cursor) => this.list(id, path, { limit: 1000, cursor }, options));
  }

  /** The changes in a directory, from when this resolves. @throws PerchError file_not_found, not_a_directory */
  watch(id: string, path: string, options: WatchOptions = {}): Promise<FileWatch> {
    return FileWatch.open(this.#http, id, path, options);
  }

  /** With its parents. */
  async mkdir(id: string, path: string, options: RequestOptions = {}): Promise<void> {
    await this.#http.done('POST', `${at(id)}/mkdir`, { ...options, json: { path } });
  }

  /** Between file systems of the sandbox it copies: give `timeoutMs` for what is large. */
  async move(id: string, source: string, destination: string, options: RequestOptions = {}): Promise<void> {
    await this.#http.done('POST', `${at(id)}/move`, { ...options, json: { source, destination } });
  }

  /** With all that is below. */
  async remove(id: string, path: string, options: RequestOptions = {}): Promise<void> {
    await this.#http.done('POST', `${at(id)}/remove`, { ...options, json: { path } });
  }
}

function at(id: string): string {
  return `/v1/sandboxes/${encodeURIComponent(id)}/files`;
}
