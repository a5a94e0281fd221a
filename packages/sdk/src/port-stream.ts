import { PerchError, type PortClientMessage, type PortServerMessage } from '@perch/protocol';
import { UnexpectedAnswerError } from './errors.ts';
import type { Http } from './http.ts';
import { openNodeSocket, refusalOf, type Socket, type SocketListener } from './socket/index.ts';

/** Messages that wait to be read before the server is held back. */
const maxWaiting = 64;
/** Longest piece in one message, `bytes`. */
const piece = 256 * 1024;

/** To be iterated once: the bytes that come, until the program ends its half. */
export class PortStream implements AsyncIterable<Uint8Array>, AsyncDisposable {
  readonly #socket: Socket;
  readonly #inbox: Inbox;

  private constructor(socket: Socket, inbox: Inbox) {
    this.#socket = socket;
    this.#inbox = inbox;
  }

  /** Resolves when the program has taken the connection. */
  static async open(http: Http, path: string): Promise<PortStream> {
    const config = await http.config();
    const inbox = new Inbox();
    const socket = await openNodeSocket(config, path, inbox, (status, body) => {
      return refusalOf(body) ?? new UnexpectedAnswerError(config.url + path, status, `status ${status}`);
    });
    inbox.hold = (hold) => (hold ? socket.pause() : socket.resume());
    try {
      await inbox.started;
      return new PortStream(socket, inbox);
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** @throws PerchError, ConnectionError when the connection breaks */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    for (let chunk = await this.#inbox.next(); chunk; chunk = await this.#inbox.next()) yield chunk;
  }

  /** Resolves when it is on its way. */
  async write(data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.byteLength; at += piece) {
      await this.#socket.send(new Uint8Array(data.subarray(at, at + piece)));
    }
  }

  /** Nothing more is written; what comes can still be read. */
  async end(): Promise<void> {
    await this.#socket.send(JSON.stringify({ type: 'end' } satisfies PortClientMessage));
  }

  /** Ends both halves. */
  close(): void {
    this.#inbox.closed(new Error('The connection was closed here.'));
    this.#socket.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

/** What has come, in order. */
class Inbox implements SocketListener {
  hold: (hold: boolean) => void = () => {};
  readonly #started = Promise.withResolvers<void>();
  #chunks: Uint8Array[] = [];
  #held = false;
  #end: { error?: unknown } | undefined;
  #wake = Promise.withResolvers<void>();

  constructor() {
    this.started.catch(() => {});
  }

  get started(): Promise<void> {
    return this.#started.promise;
  }

  message(received: string | Uint8Array): void {
    if (typeof received !== 'string') {
      this.#chunks.push(received);
      if (this.#chunks.length > maxWaiting && !this.#held) {
        this.#held = true;
        this.hold(true);
      }
      this.#wake.resolve();
      return;
    }
    const message = JSON.parse(received) as PortServerMessage;
    if (message.type === 'start') this.#started.resolve();
    else if (message.type === 'end') this.#over({});
    else this.closed(PerchError.fromBody(message) ?? new UnexpectedAnswerError('ports', 200, 'an error'));
  }

  closed(error: unknown): void {
    this.#started.reject(error);
    this.#over({ error });
  }

  /** Undefined after the last. Throws the error of the connection once all that came is read. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk) {
        if (this.#held && this.#chunks.length < maxWaiting / 2) {
          this.#held = false;
          this.hold(false);
        }
        return chunk;
      }
      if (this.#end) {
        if ('error' in this.#end) throw this.#end.error;
        return undefined;
      }
      this.#wake = Promise.withResolvers();
      await this.#wake.promise;
    }
  }

  #over(end: { error?: unknown }): void {
    this.#end ??= end;
    this.#wake.resolve();
  }
}
