/** A command over a WebSocket: output as it comes, input, signals. */
import {
  type ExecClientMessage,
  type ExecServerMessage,
  type ExecTicket,
  PerchError,
  type SignalName,
  streamNumbers,
  type TerminalSize,
} from '@perch/protocol';
import { UnexpectedAnswerError } from '../errors.ts';
import type { Http } from '../http.ts';
import {
  isNode,
  openBrowserSocket,
  openNodeSocket,
  refusalOf,
  type Socket,
  type SocketListener,
} from './socket.ts';

export type ExecStart = Omit<Extract<ExecClientMessage, { type: 'start' }>, 'type' | 'binary'>;

type First = Extract<ExecClientMessage, { type: 'start' | 'attach' }>;
type Message = ExecServerMessage | Output;
type Started = Extract<ExecServerMessage, { type: 'start' }>;

export type ExecEvent =
  /** `text` is undefined where the bytes are no UTF-8; no character is ever split. */
  | { type: 'stdout' | 'stderr'; readonly data: Uint8Array; readonly text: string | undefined }
  /** 127: no such command; 128 + n: ended by signal n, 137 for want of memory as `reason` tells. */
  | { type: 'exit'; exit_code: number; reason?: 'out_of_memory' };

/** Messages that wait to be read before the server is held back. */
const maxWaiting = 256;
/** Longest piece of input in one message, `bytes`. */
const inputPiece = 256 * 1024;

/**
 * To be iterated once; the last event is `exit`. Leaving it early kills the command, unless it is detached or was
 * attached to. When Perch restarts (`shutting_down`) or the sandbox is paused (`sandbox_not_running`, status `paused`),
 * the iteration throws and the command lives on: attach to `pid` when it runs again.
 */
export class ExecStream implements AsyncIterable<ExecEvent>, AsyncDisposable {
  /** In the sandbox; 0 when the command could not be started, which its exit code tells. */
  readonly pid: number;
  /** Of a command that was attached to: whether there was more before the output that comes. */
  readonly truncated: { stdout: boolean; stderr: boolean };
  readonly #socket: Socket;
  readonly #inbox: Inbox;

  private constructor(started: Started, socket: Socket, inbox: Inbox) {
    this.pid = started.pid;
    this.truncated = started.truncated ?? { stdout: false, stderr: false };
    this.#socket = socket;
    this.#inbox = inbox;
  }

  /** Resolves when the command runs. */
  static async open(http: Http, id: string, how: First, signal?: AbortSignal): Promise<ExecStream> {
    signal?.throwIfAborted();
    const inbox = new Inbox();
    const socket = await connect(http, id, inbox);
    inbox.hold = (hold) => (hold ? socket.pause() : socket.resume());
    const cancel = () => {
      inbox.closed(signal?.reason);
      socket.close();
    };
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      await socket.send(JSON.stringify({ ...how, binary: true }));
      const first = await inbox.next();
      if (first?.type !== 'start') {
        throw first ? asError(first) : new UnexpectedAnswerError('exec/stream', 200, 'no start');
      }
      return new ExecStream(first, socket, inbox);
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /**
   * The exit code. A command that writes much ends only when its output is read. Rejects with what the
   * iteration throws.
   */
  get exit(): Promise<number> {
    return this.#inbox.exit;
  }

  /** @throws PerchError, ConnectionError when it ends without an exit code */
  async *[Symbol.asyncIterator](): AsyncGenerator<ExecEvent, void, void> {
    try {
      for (;;) {
        const message = await this.#inbox.next();
        if (message.type === 'error' || message.type === 'start') throw asError(message);
        if (message.type === 'exit') {
          yield message;
          return;
        }
        yield message instanceof Output ? message : outputOf(message);
      }
    } finally {
      this.#socket.close();
    }
  }

  /** Resolves when it is on its way. Input after the command's end is lost, as in a pipe. */
  async write(data: string | Uint8Array): Promise<void> {
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
    for (let offset = 0; offset < bytes.byteLength && !this.#inbox.over; offset += inputPiece) {
      const piece = bytes.subarray(offset, offset + inputPiece);
      const message = new Uint8Array(piece.byteLength + 1);
      message[0] = streamNumbers.stdin;
      message.set(piece, 1);
      await this.#socket.send(message);
    }
  }

  async closeStdin(): Promise<void> {
    await this.#send({ type: 'stdin_close' });
  }

  /** Of a terminal: its window has changed. */
  async resize({ cols, rows }: TerminalSize): Promise<void> {
    await this.#send({ type: 'resize', cols, rows });
  }

  async signal(name: SignalName): Promise<void> {
    await this.#send({ type: 'signal', signal: name });
  }

  /** Kills the command; its exit code still comes. */
  async stop(): Promise<void> {
    await this.#send({ type: 'stop' });
  }

  close(): void {
    this.#socket.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  async #send(message: ExecClientMessage): Promise<void> {
    if (this.#inbox.over) return;
    await this.#socket.send(JSON.stringify(message));
  }
}

/** Of a binary message. It is decoded only for those who want text. */
class Output {
  readonly type: 'stdout' | 'stderr';
  readonly data: Uint8Array;

  constructor(message: Uint8Array) {
    const [number] = message;
    if (number !== streamNumbers.stdout && number !== streamNumbers.stderr) {
      throw new Error(`output of the unknown stream ${number}`);
    }
    this.type = number === streamNumbers.stdout ? 'stdout' : 'stderr';
    this.data = message.subarray(1);
  }

  get text(): string | undefined {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.data);
    } catch {
      return undefined;
    }
  }
}

/** Messages that have come, in order. */
class Inbox implements SocketListener {
  hold: (hold: boolean) => void = () => {};
  /** The last message has come, or the connection has ended. */
  over = false;
  #messages: Message[] = [];
  #held = false;
  #end: { error: unknown } | undefined;
  #wake = Promise.withResolvers<void>();
  #exit = Promise.withResolvers<number>();

  constructor() {
    this.#exit.promise.catch(() => {});
  }

  get exit(): Promise<number> {
    return this.#exit.promise;
  }

  message(received: string | Uint8Array): void {
    let message: Message;
    try {
      message = typeof received === 'string' ? JSON.parse(received) : new Output(received);
    } catch (error) {
      this.closed(new UnexpectedAnswerError('exec/stream', 200, 'a message cannot be read', error));
      return;
    }
    if (this.over) return;
    this.over = message.type === 'exit' || message.type === 'error';
    if (message.type === 'exit') this.#exit.resolve(message.exit_code);
    if (message.type === 'error') this.#exit.reject(asError(message));
    this.#messages.push(message);
    if (this.#messages.length > maxWaiting && !this.#held) {
      this.#held = true;
      this.hold(true);
    }
    this.#wake.resolve();
  }

  closed(error: unknown): void {
    this.over = true;
    this.#end ??= { error };
    this.#exit.reject(error);
    this.#wake.resolve();
  }

  /** Throws the error of the connection once all that came is read. */
  async next(): Promise<Message> {
    for (;;) {
      const message = this.#messages.shift();
      if (message) {
        if (this.#held && this.#messages.length < maxWaiting / 2) {
          this.#held = false;
          this.hold(false);
        }
        return message;
      }
      if (this.#end) throw this.#end.error;
      this.#wake = Promise.withResolvers();
      await this.#wake.promise;
    }
  }
}

async function connect(http: Http, id: string, inbox: Inbox): Promise<Socket> {
  const config = await http.config();
  const path = `/v1/sandboxes/${encodeURIComponent(id)}/exec`;
  if (isNode) {
    return openNodeSocket(config, `${path}/stream`, inbox, (status, body) => {
      const url = `${config.url}${path}/stream`;
      return refusalOf(body) ?? new UnexpectedAnswerError(url, status, `status ${status}`);
    });
  }
  const { ticket } = await http.json<ExecTicket>('POST', `${path}/ticket`);
  return openBrowserSocket(config, `${path}/stream?ticket=${encodeURIComponent(ticket)}`, inbox);
}

function asError(message: Message): Error {
  return (
    PerchError.fromBody(message) ??
    new UnexpectedAnswerError('exec/stream', 200, `${message.type} out of order`)
  );
}

function outputOf(message: Extract<ExecServerMessage, { type: 'stdout' | 'stderr' }>): ExecEvent {
  const { type } = message;
  if ('data' in message) return { type, data: new TextEncoder().encode(message.data), text: message.data };
  const data = Uint8Array.from(atob(message.data_base64), (character) => character.charCodeAt(0));
  return { type, data, text: undefined };
}
