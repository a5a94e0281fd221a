/** One `ports/{port}/stream` connection: the bytes of one TCP connection to a port of the guest, over a WebSocket. */
import type { Socket } from 'node:net';
import { PerchError, type PortServerMessage } from '@perch/protocol';
import type { Life } from '../sandboxes/index.ts';
import { maxUnsentBytes, open, Pings, type ServerSocket } from '../sockets/index.ts';

/** A peer that does not answer the close is cut off. */
const closeWithinMs = 5_000;

export class PortSession {
  readonly #socket: ServerSocket;
  readonly #guest: Socket;
  readonly #port: number;
  readonly #life: Life;
  readonly #ends: readonly AbortSignal[];
  readonly #over = Promise.withResolvers<void>();
  #connected = false;
  #clientEnded = false;
  #guestEnded = false;
  #held = false;

  /** @param guest a connection that is being made, of which either half may end first */
  constructor(socket: ServerSocket, guest: Socket, port: number, life: Life, shutdown: AbortSignal) {
    this.#socket = socket;
    this.#guest = guest;
    this.#port = port;
    this.#life = life;
    this.#ends = [life.signal, shutdown];
  }

  /** Resolves when the connection is over. */
  async run(): Promise<void> {
    using _ = new Pings(this.#socket, () => this.#held);
    const ended = () => this.#fail(this.#ends.find(({ aborted }) => aborted)?.reason);
    for (const each of this.#ends) each.addEventListener('abort', ended);
    this.#fromClient();
    this.#fromGuest();
    if (this.#ends.some(({ aborted }) => aborted)) ended();
    await this.#over.promise;
    for (const each of this.#ends) each.removeEventListener('abort', ended);
    this.#leave();
  }

  /** A program gets all of what is whole, and must not take what has come for all of it when there was more to come. */
  #leave(): void {
    if (this.#clientEnded) this.#guest.destroySoon();
    else this.#guest.resetAndDestroy();
  }

  #fromClient(): void {
    this.#socket.on('message', (data, isBinary) => {
      if (!isBinary) this.#command(data);
      else if (this.#clientEnded) this.#fail(wrong('must not come after {"type":"end"}'));
      else if (!this.#guest.write(data)) this.#hold();
    });
    this.#guest.on('drain', () => this.#letGo());
    this.#socket.on('close', () => this.#over.resolve());
    this.#socket.on('error', () => this.#over.resolve());
  }

  #fromGuest(): void {
    this.#guest.once('connect', () => {
      this.#connected = true;
      this.#tell({ type: 'start' });
    });
    this.#guest.on('data', (chunk: Buffer) => {
      if (this.#socket.readyState !== open) return;
      this.#socket.send(chunk, () => this.#guest.resume());
      if (this.#socket.bufferedAmount > maxUnsentBytes) this.#guest.pause();
    });
    this.#guest.once('end', () => {
      this.#guestEnded = true;
      this.#tell({ type: 'end' });
      this.#closeWhole();
    });
    this.#guest.once('finish', () => this.#closeWhole());
    this.#guest.once('error', (error: NodeJS.ErrnoException) => this.#fail(this.#reasonOf(error)));
    this.#guest.once('close', () => {
      if (!this.#isWhole) this.#fail(this.#reasonOf(new Error('closed')));
    });
  }

  #command(data: Buffer): void {
    if (data.toString() !== '{"type":"end"}') {
      this.#fail(wrong('must be {"type":"end"}, or binary'));
      return;
    }
    this.#clientEnded = true;
    this.#guest.end();
  }

  /** Both ends have ended, and the system has all that the client sent. */
  get #isWhole(): boolean {
    return this.#guestEnded && this.#guest.writableFinished;
  }

  #closeWhole(): void {
    if (this.#isWhole) this.#close(1000, 'both ends have ended');
  }

  #hold(): void {
    this.#held = true;
    this.#socket.pause();
  }

  #letGo(): void {
    this.#held = false;
    this.#socket.resume();
  }

  #reasonOf(error: NodeJS.ErrnoException): PerchError {
    const { id } = this.#life;
    if (this.#life.signal.aborted && this.#life.signal.reason instanceof PerchError) {
      return this.#life.signal.reason;
    }
    if (!this.#connected && error.code === 'ECONNREFUSED') {
      return new PerchError('port_closed', `Nothing listens on port ${this.#port} of sandbox ${id}.`, {
        id,
        port: this.#port,
      });
    }
    const message = `The connection to port ${this.#port} broke off.`;
    return new PerchError('guest_unavailable', message, { id }, { cause: error });
  }

  #tell(message: PortServerMessage): void {
    if (this.#socket.readyState === open) this.#socket.send(JSON.stringify(message), () => {});
  }

  #fail(cause: unknown): void {
    if (this.#socket.readyState !== open) return;
    const error =
      cause instanceof PerchError
        ? cause
        : new PerchError('internal', 'The connection broke.', {}, { cause });
    this.#leave();
    // It has to hear the answer to its close.
    this.#letGo();
    this.#tell({ type: 'error', ...error.toBody() });
    this.#close(error.code === 'shutting_down' ? 1001 : error.status < 500 ? 1008 : 1011, error.code);
  }

  #close(code: number, reason: string): void {
    if (this.#socket.readyState !== open) return;
    this.#socket.close(code, reason);
    setTimeout(() => this.#socket.terminate(), closeWithinMs).unref();
  }
}

function wrong(message: string): PerchError {
  return new PerchError('validation_failed', `The message ${message}.`, {
    problems: [{ where: 'the message', message }],
  });
}
