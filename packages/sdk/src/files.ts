import { type FileEntry, type FileList, PerchError } from '@perch/protocol';
import type { Transport } from './transport.ts';

export type FileData =
  | string
  | Uint8Array<ArrayBuffer>
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array>;

export interface TransferOptions {
  signal?: AbortSignal;
}

/** Files of one sandbox. Paths are absolute, or relative to the user's home. */
export class Files {
  readonly #http: Transport;
  readonly #base: string;

  constructor(http: Transport, sandboxId: string) {
    this.#http = http;
    this.#base = `/v1/sandboxes/${encodeURIComponent(sandboxId)}/files`;
  }

  /** Writes a file of any size as it comes; it appears whole or not at all. */
  async write(path: string, data: FileData, options: TransferOptions = {}): Promise<void> {
    await this.#http.json('POST', `${this.#base}/stream/write`, {
      query: { path },
      headers: { 'content-type': 'application/octet-stream' },
      raw: asBody(data),
      timeoutMs: 0,
      ...options,
    });
  }

  /** The whole file in memory. @throws PerchError file_not_found, not_a_file, transfer_interrupted */
  async read(path: string, options: TransferOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const { stream } = await this.readStream(path, options);
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async readText(path: string, options: TransferOptions = {}): Promise<string> {
    return new TextDecoder().decode(await this.read(path, options));
  }

  /**
   * The file as it comes. The stream fails when the transfer breaks off: a short file never ends well.
   * @returns `size` in bytes, where it was known beforehand
   */
  async readStream(
    path: string,
    options: TransferOptions = {},
  ): Promise<{ stream: ReadableStream<Uint8Array>; size: number | undefined }> {
    const answer = await this.#http.call('GET', `${this.#base}/stream/read`, { query: { path }, ...options });
    const length = answer.headers.get('content-length');
    const size = length === null ? undefined : Number(length);
    const body = answer.body ?? new Blob([]).stream();
    return { stream: body.pipeThrough(exactly(path, size)), size };
  }

  async list(path: string): Promise<FileEntry[]> {
    return (await this.#http.json<FileList>('GET', this.#base, { query: { path } })).items;
  }

  async mkdir(path: string): Promise<void> {
    await this.#http.json('POST', `${this.#base}/mkdir`, { body: { path } });
  }

  async move(source: string, destination: string): Promise<void> {
    await this.#http.json('POST', `${this.#base}/move`, { body: { source, destination } });
  }

  async remove(path: string): Promise<void> {
    await this.#http.json('POST', `${this.#base}/remove`, { body: { path } });
  }
}

function asBody(data: FileData): NonNullable<RequestInit['body']> {
  if (typeof data === 'string' || data instanceof Uint8Array || data instanceof ReadableStream) return data;
  return ReadableStream.from(data);
}

function exactly(path: string, size: number | undefined): TransformStream<Uint8Array, Uint8Array> {
  let received = 0;
  return new TransformStream({
    transform(chunk, controller) {
      received += chunk.byteLength;
      controller.enqueue(chunk);
    },
    flush(controller) {
      if (size === undefined || received === size) return;
      const message = `The file ${path} broke off after ${received} of ${size} bytes.`;
      controller.error(new PerchError('transfer_interrupted', message, { path }));
    },
  });
}
