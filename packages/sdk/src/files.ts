import type { FileEntry, FileList } from '@perch/protocol';
import { bodyOf, collect, type Source, wholeBody } from './bytes.ts';
import type { Http, RequestOptions } from './http.ts';

export interface Download {
  stream: ReadableStream<Uint8Array>;
  /** Bytes to come; undefined for a file that does not know, such as one of /proc. */
  size: number | undefined;
}

/** Files of a sandbox. Relative paths start at the user's home. */
export class Files {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** Replaces the file, once all of it has come. Any size. */
  async write(id: string, path: string, source: Source, options: RequestOptions = {}): Promise<void> {
    let sourceError: { error: unknown } | undefined;
    const { body, size } = bodyOf(source, (error) => {
      sourceError = { error };
    });
    try {
      await this.#http.done('POST', `${at(id)}/stream/write`, {
        ...options,
        query: { path },
        body,
        headers: {
          'content-type': 'application/octet-stream',
          ...(size === undefined ? {} : { 'content-length': String(size) }),
        },
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
    const response = await this.#http.send('GET', `${at(id)}/stream/read`, {
      ...options,
      query: { path },
      endless: true,
    });
    return wholeBody(response, path, options.signal);
  }

  async list(id: string, path: string, options: RequestOptions = {}): Promise<FileEntry[]> {
    const { items } = await this.#http.json<FileList>('GET', at(id), {
      ...options,
      query: { path },
      repeatable: true,
    });
    return items;
  }

  /** With its parents. */
  async mkdir(id: string, path: string, options: RequestOptions = {}): Promise<void> {
    await this.#http.done('POST', `${at(id)}/mkdir`, { ...options, json: { path } });
  }

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
