import { PerchError, type PortClientMessage, type PortServerMessage } from '@perch/protocol';
import { UnexpectedAnswerError } from './errors.ts';
import type { Http } from './http.ts';
import { connect, Inbox, type Socket } from './socket/index.ts';

/** Longest piece in one message, `bytes`. */
const piece = 256 * 1024;
const call = 'ports/{port}/stream';

/** To be iterated once: the bytes that come, until the program ends its half. */
export class PortStream implements AsyncIterable<Uint8Array>, AsyncDisposable {
  readonly #socket: Socket;
  readonly #inbox: Bytes;

  private constructor(socket: Socket, inbox: Bytes) {
    this.#socket = socket;
    this.#inbox = inbox;
  }

  /** Resolves when the program has taken the connection. */
  static async open(http: Http, id: string, port: number): Promise<PortStream> {
    const inbox = new Bytes(call);
    const socket = await connect(http, { id, path: `ports/${port}/stream` }, inbox);
    try {
      const first = await inbox.next();
      if (first instanceof Uint8Array || first.type !== 'start') throw asError(first);
      return new PortStream(socket, inbox);
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** @throws PerchError, ConnectionError when the connection breaks */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      const message = await this.#inbox.next();
      if (message instanceof Uint8Array) yield message;
      else if (message.type === 'end') return;
      else throw asError(message);
    }
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

type Message = Uint8Array | PortServerMessage;

class Bytes extends Inbox<Message> {
  protected read(received: string | Uint8Array): Message {
    return typeof received === 'string' ? (JSON.parse(received) as PortServerMessage) : received;
  }

  protected arrived(message: Message): boolean {
    return !(message instanceof Uint8Array) && message.type !== 'start';
  }
}

function asError(message: Message): Error {
  const type = message instanceof Uint8Array ? 'bytes' : message.type;
  return PerchError.fromBody(message) ?? new UnexpectedAnswerError(call, 200, `${type} out of order`);
}
