/** One `files/watch` connection: `start`, then a message for each change, until the client goes or an error comes. */
import { PerchError, type WatchMessage } from '@perch/protocol';
import type { Guest } from '../guests/index.ts';
import type { Life } from '../sandboxes/index.ts';
import { maxUnsentBytes, open, Pings, type ServerSocket } from '../sockets/index.ts';

export interface Watched {
  path: string;
  recursive?: boolean | undefined;
}

export class WatchSession {
  readonly #socket: ServerSocket;
  readonly #guest: Guest;
  readonly #ends: readonly AbortSignal[];
  /** Aborts when the connection is over, for whatever reason. */
  readonly #over = new AbortController();

  constructor(socket: ServerSocket, guest: Guest, life: Life, shutdown: AbortSignal) {
    this.#socket = socket;
    this.#guest = guest;
    this.#ends = [life.signal, shutdown];
  }

  /** Resolves when the connection is over. */
  async run({ path, recursive }: Watched): Promise<void> {
    const { signal } = this.#over;
    using _ = new Pings(this.#socket);
    this.#socket.on('message', () => this.#over.abort(unasked()));
    this.#socket.on('close', () => this.#over.abort(new Error('the client went away')));
    this.#socket.on('error', () => this.#over.abort(new Error('the connection broke')));
    const end = () => this.#over.abort(this.#ends.find(({ aborted }) => aborted)?.reason);
    for (const each of this.#ends) each.addEventListener('abort', end);
    if (this.#ends.some(({ aborted }) => aborted)) end();
    try {
      const changes = await this.#guest.watch(path, { recursive, signal });
      await this.#send({ type: 'start' });
      for await (const change of changes) {
        signal.throwIfAborted();
        await this.#send(change);
      }
    } catch (error) {
      await this.#fail(signal.aborted ? signal.reason : error);
    } finally {
      for (const each of this.#ends) each.removeEventListener('abort', end);
      this.#over.abort();
    }
  }

  /** Waits until the client has taken what was sent before, when that is much. */
  async #send(message: WatchMessage): Promise<void> {
    if (this.#socket.readyState !== open) return;
    const sent = new Promise<void>((resolve) => this.#socket.send(JSON.stringify(message), () => resolve()));
    if (this.#socket.bufferedAmount > maxUnsentBytes) await sent;
  }

  async #fail(cause: unknown): Promise<void> {
    const error =
      cause instanceof PerchError
        ? cause
        : new PerchError('internal', 'The directory could not be watched any longer.', {}, { cause });
    await this.#send({ type: 'error', ...error.toBody() });
    if (this.#socket.readyState !== open) return;
    this.#socket.close(closeCode(error), error.code);
    // A peer that does not answer the close is cut off.
    setTimeout(() => this.#socket.terminate(), 5_000).unref();
  }
}

function closeCode({ code, status }: PerchError): number {
  if (code === 'shutting_down') return 1001;
  return status < 500 ? 1008 : 1011;
}

function unasked(): PerchError {
  const message = 'must not come: files/watch takes none';
  return new PerchError('validation_failed', `The message ${message}.`, {
    problems: [{ where: 'the message', message }],
  });
}
