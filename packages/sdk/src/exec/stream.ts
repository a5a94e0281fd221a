/** A command over a WebSocket: output as it comes, input, signals. */
import {
  type ExecClientMessage,
  type ExecServerMessage,
  PerchError,
  type SignalName,
  streamNumbers,
  type TerminalSize,
} from '@perch/protocol';
import { UnexpectedAnswerError } from '../errors.ts';
import type { Http } from '../http.ts';
import { connect, Inbox, type Socket } from '../socket/index.ts';

export type ExecStart = Omit<Extract<ExecClientMessage, { type: 'start' }>, 'type' | 'binary'>;

type First = Extract<ExecClientMessage, { type: 'start' | 'attach' }>;
type Message = ExecServerMessage | Output;
type Started = Extract<ExecServerMessage, { type: 'start' }>;

export type ExecEvent =
  /** `text` is undefined where the bytes are no UTF-8; no character is ever split. */
  | { type: 'stdout' | 'stderr'; readonly data: Uint8Array; readonly text: string | undefined }
  /** 127: no such command; 128 + n: ended by signal n, 137 for want of memory as `reason` tells. */
  | { type: 'exit'; exit_code: number; reason?: 'out_of_memory' };

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
  readonly #inbox: Outputs;

  private constructor(started: Started, socket: Socket, inbox: Outputs) {
    this.pid = started.pid;
    this.truncated = started.truncated ?? { stdout: false, stderr: false };
    this.#socket = socket;
    this.#inbox = inbox;
  }

  /** Resolves when the command runs. */
  static async open(http: Http, id: string, how: First, signal?: AbortSignal): Promise<ExecStream> {
    const inbox = new Outputs('exec/stream');
    const socket = await connect(http, { id, path: 'exec/stream' }, inbox, signal);
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

class Outputs extends Inbox<Message> {
  #exit = Promise.withResolvers<number>();

  constructor(call: string) {
    super(call);
    this.#exit.promise.catch(() => {});
  }

  get exit(): Promise<number> {
    return this.#exit.promise;
  }

  protected read(received: string | Uint8Array): Message {
    return typeof received === 'string' ? JSON.parse(received) : new Output(received);
  }

  protected arrived(message: Message): boolean {
    if (message.type === 'exit') this.#exit.resolve(message.exit_code);
    if (message.type === 'error') this.#exit.reject(asError(message));
    return message.type === 'exit' || message.type === 'error';
  }

  protected override ended(error: unknown): void {
    this.#exit.reject(error);
  }
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
