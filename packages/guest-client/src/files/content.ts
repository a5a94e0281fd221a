/** `GET` and `POST /files`: content of any size, in constant memory. */
import { type Readable, Transform } from 'node:stream';
import type { Dispatcher } from 'undici';
import {
  agentTooOld,
  connectionError,
  guestProtocol,
  guestUnavailable,
  transferInterrupted,
} from '../errors.ts';
import type { Transport } from '../transport.ts';
import type { PathOptions } from './directory.ts';
import { pathError } from './path-error.ts';
import { readTime } from './time.ts';

export interface FileContent {
  stream: Readable;
  /** Bytes to come; undefined when the agent does not know, as for files of /proc. */
  size: number | undefined;
  /** Permission bits. */
  mode?: number;
  /** RFC 3339, up to nanoseconds. */
  modifiedAt?: string;
}

/** The stream fails with transfer_interrupted when it ends before `size`. */
export async function readFile(
  transport: Transport,
  path: string,
  { user, signal }: PathOptions = {},
): Promise<FileContent> {
  const response = await transport.request({
    method: 'GET',
    path: filesUrl(path, user),
    headers: transport.headers(),
    signal,
  });
  await refuse(transport, response, path, user);
  const size = contentLength(transport, response);
  const attributes = attributesOf(transport, response);
  return { stream: whole(response.body, path, size, signal), size, ...attributes };
}

/**
 * A directory with all that is below, as a tar stream: its own entry is the first, as `./`, and a directory comes before
 * what is in it. What the agent meets on the way is the error of the stream, as it would be of the call. It is
 * transfer_interrupted when the agent cannot tell.
 * @throws agent_too_old from the agent of an older snapshot
 */
export async function readArchive(
  transport: Transport,
  path: string,
  { user, signal }: PathOptions = {},
): Promise<Readable> {
  const request = { method: 'GET', path: filesUrl(path, user, '/archive'), signal } as const;
  const headers = { ...transport.headers(), te: 'trailers' };
  const response = await transport.request({ ...request, headers });
  const { sandboxId } = transport.options;
  if (response.statusCode !== 200) {
    const refusal = await transport.refusal(response);
    if (refusal.code === 'unimplemented') throw agentTooOld(sandboxId, 'archives of directories');
    throw pathError(refusal, { sandboxId, path, user });
  }
  return whole(response.body, path, undefined, signal, () => {
    const refusal = transport.refusalAtEnd(response);
    return refusal && pathError(refusal, { sandboxId, path: refusal.path ?? path, user });
  });
}

export interface WriteOptions extends PathOptions {
  /** Bytes of the source. A source that gives another number breaks the transfer. */
  size?: number | undefined;
  /** Permission bits. Default: those of the file that is written over, which gets only those it had; else 0644. */
  mode?: number | undefined;
  /** RFC 3339. Default: now. */
  modifiedAt?: string | undefined;
  /** The source is compressed, and to be unpacked. `size` is that of the source. */
  gzip?: boolean | undefined;
}

/**
 * Replaces the file at once when all of it has come; a transfer that breaks off leaves what was there.
 *
 * A chunk that is longer than what a stream holds before it asks its writer to wait (64 KiB) has left when the
 * next one is asked for, so its memory may be used again then.
 */
export async function writeFile(
  transport: Transport,
  path: string,
  source: Readable | AsyncIterable<Uint8Array>,
  { user, size, mode, modifiedAt, gzip, signal }: WriteOptions = {},
): Promise<void> {
  const { idleTimeoutMs, sandboxId } = transport.options;
  const watch = new Watch(signal, idleTimeoutMs);
  try {
    const response = await transport
      .request({
        method: 'POST',
        path: filesUrl(path, user),
        headers: {
          ...transport.headers(),
          'content-type': 'application/octet-stream',
          ...(size === undefined ? {} : { 'content-length': String(size) }),
          ...(mode === undefined ? {} : { 'perch-mode': mode.toString(8) }),
          ...(modifiedAt === undefined ? {} : { 'perch-mtime': modifiedAt }),
          ...(gzip ? { 'content-encoding': 'gzip' } : {}),
        },
        // undici takes any iterable, which its types do not say.
        body: watch.over(source) as AsyncIterable<Uint8Array> as Readable,
        headersTimeout: 0,
        signal: watch.signal,
      })
      .catch((error: unknown) => {
        throw uploadError(error, watch, sandboxId, path);
      });
    await refuse(transport, response, path, user);
    await transport.readBody(response.body, 64 * 1024).catch((error: unknown) => {
      throw connectionError(error, sandboxId, signal);
    });
  } finally {
    watch.stop();
  }
}

function uploadError(error: unknown, watch: Watch, sandboxId: string, path: string): unknown {
  if (watch.stalled) return guestUnavailable(sandboxId, 'it takes no more of a file', error);
  if (watch.signal.aborted) return watch.signal.reason;
  // Before the first byte was asked for, nothing was sent: the agent cannot be reached.
  if (!watch.begun) return error;
  return transferInterrupted(path, watch.sourceError ?? error);
}

/** Sees to it that the agent keeps taking what the source has. The source may take its time. */
class Watch {
  readonly #abort = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #idleMs: number;
  readonly #cancel = () => this.#abort.abort(this.#outer?.reason);
  #timer: NodeJS.Timeout | undefined;
  begun = false;
  stalled = false;
  sourceError: unknown;

  constructor(outer: AbortSignal | undefined, idleMs: number) {
    this.#outer = outer;
    this.#idleMs = idleMs;
    if (outer?.aborted) this.#cancel();
    outer?.addEventListener('abort', this.#cancel, { once: true });
    this.#wait();
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  async *over(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    this.begun = true;
    const chunks = source[Symbol.asyncIterator]();
    try {
      for (;;) {
        clearTimeout(this.#timer);
        const next = await chunks.next();
        this.#wait();
        if (next.done) return;
        yield next.value;
      }
    } catch (error) {
      this.sourceError = error;
      throw error;
    } finally {
      await chunks.return?.();
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener('abort', this.#cancel);
  }

  #wait(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.stalled = true;
      this.#abort.abort(new Error('the guest takes nothing'));
    }, this.#idleMs);
  }
}

async function refuse(
  transport: Transport,
  response: Dispatcher.ResponseData,
  path: string,
  user: string | undefined,
): Promise<void> {
  if (response.statusCode === 200) return;
  const refusal = await transport.refusal(response);
  throw pathError(refusal, { sandboxId: transport.options.sandboxId, path, user });
}

function contentLength(transport: Transport, response: Dispatcher.ResponseData): number | undefined {
  const length = response.headers['content-length'];
  if (length === undefined) return undefined;
  if (typeof length === 'string' && /^\d{1,15}$/.test(length)) return Number(length);
  response.body.destroy();
  throw guestProtocol(transport.options.sandboxId, 'a content length is no number');
}

function attributesOf(transport: Transport, response: Dispatcher.ResponseData) {
  const { 'perch-mode': mode, 'perch-mtime': mtime } = response.headers;
  // The agent of an older snapshot tells neither.
  if (mode === undefined && mtime === undefined) return {};
  const modifiedAt = readTime(mtime);
  if (typeof mode === 'string' && /^0?[0-7]{1,3}$/.test(mode) && modifiedAt !== undefined) {
    return { mode: Number.parseInt(mode, 8), modifiedAt };
  }
  response.body.destroy();
  throw guestProtocol(transport.options.sandboxId, 'mode or time of a file is malformed');
}

/**
 * Passes the body on, and turns whatever cuts it short into transfer_interrupted.
 * @param failure what the agent says at the end, if it is another end than that of the whole
 */
function whole(
  body: Readable,
  path: string,
  size: number | undefined,
  signal: AbortSignal | undefined,
  failure: () => Error | undefined = () => undefined,
): Readable {
  let received = 0;
  const checked = new Transform({
    highWaterMark: 256 * 1024,
    transform(chunk: Buffer, _encoding, done) {
      received += chunk.length;
      done(null, chunk);
    },
    flush(done) {
      const isShort = size !== undefined && received !== size;
      done(failure() ?? (isShort ? transferInterrupted(path) : null));
    },
    destroy(error, done) {
      body.destroy();
      done(error);
    },
  });
  body.on('error', (error) => {
    checked.destroy((signal?.aborted ? signal.reason : transferInterrupted(path, error)) as Error);
  });
  body.pipe(checked);
  return checked;
}

function filesUrl(path: string, user: string | undefined, below = ''): string {
  const as = user === undefined ? '' : `&username=${encodeURIComponent(user)}`;
  return `/files${below}?path=${encodeURIComponent(path)}${as}`;
}
