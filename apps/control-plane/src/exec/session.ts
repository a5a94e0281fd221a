/**
 * One `exec/stream` connection: `start` from the client, then output until `exit` or `error`. Output is read
 * from the guest only as fast as the client takes it.
 */

import type { GuestProcess } from '@perch/guest-client';
import { ExecClientMessage, type ExecServerMessage, PerchError, type SignalName } from '@perch/protocol';
import { type Static, Type } from 'typebox';
import type { Guest } from '../guests/index.ts';
import type { Life } from '../sandboxes/index.ts';
import { type Check, checker } from '../validation/index.ts';
import { type Piece, Utf8Splitter } from './utf8.ts';

/** What the session needs of a WebSocket. */
export interface ExecSocket {
  readonly bufferedAmount: number;
  readonly readyState: number;
  send(data: string, done: (error?: Error | null) => void): void;
  ping(): void;
  pause(): void;
  resume(): void;
  close(code: number, reason: string): void;
  terminate(): void;
  on(event: 'message', listener: (data: Buffer, isBinary: boolean) => void): unknown;
  on(event: 'pong' | 'close', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

type ClientMessage = Static<typeof ExecClientMessage>;
type Start = Extract<ClientMessage, { type: 'start' }>;
type Stdin = Extract<ClientMessage, { type: 'stdin' | 'stdin_close' }>;

const pingMs = 20_000;
const startWithinMs = 10_000;
const maxUnsentBytes = 1024 * 1024;
const maxUnreadStdin = 4 * 1024 * 1024;
const open = 1;

/** One check for each type of message, so that a wrong one is told what its own fields are. */
const checks = new Map<string, Check<typeof ExecClientMessage>>(
  ExecClientMessage.anyOf.map((schema) => [
    schema.properties.type.const,
    checker(schema, 'the message') as unknown as Check<typeof ExecClientMessage>,
  ]),
);
const TypeOnly = Type.Object({ type: Type.Enum([...checks.keys()]) });
const checkType = checker(TypeOnly, 'the message');

export class ExecSession {
  readonly #socket: ExecSocket;
  readonly #guest: Guest;
  readonly #life: Life;
  readonly #shutdown: AbortSignal;
  /** Aborts when the connection is over, for whatever reason. */
  readonly #over = new AbortController();
  readonly #started = Promise.withResolvers<Start>();
  #begun = false;
  #detach = false;
  #process: GuestProcess | undefined;
  #stdin: Stdin[] = [];
  #stdinBytes = 0;
  #feeding = false;
  #paused = false;
  #alive = true;

  constructor(socket: ExecSocket, guest: Guest, life: Life, shutdown: AbortSignal) {
    this.#socket = socket;
    this.#guest = guest;
    this.#life = life;
    this.#shutdown = shutdown;
  }

  /** Resolves when the connection is over and the command with it, unless it is detached. */
  async run(): Promise<'exit' | 'error'> {
    this.#started.promise.catch(() => {});
    this.#socket.on('message', (data, isBinary) => this.#received(data, isBinary));
    this.#socket.on('pong', () => {
      this.#alive = true;
    });
    this.#socket.on('close', () => this.#over.abort(new Error('the client went away')));
    this.#socket.on('error', () => this.#over.abort(new Error('the connection broke')));
    const end = (signal: AbortSignal) => () => this.#over.abort(signal.reason);
    const ends = [this.#life.signal, this.#shutdown].map((signal) => ({ signal, listener: end(signal) }));
    for (const { signal, listener } of ends) {
      signal.addEventListener('abort', listener, { once: true });
      if (signal.aborted) listener();
    }
    this.#over.signal.addEventListener('abort', () => this.#started.reject(this.#over.signal.reason));
    if (this.#over.signal.aborted) this.#started.reject(this.#over.signal.reason);
    const late = setTimeout(() => this.#refuse(problem('must come within 10 s')), startWithinMs);
    const pings = setInterval(() => this.#ping(), pingMs);
    try {
      const start = await this.#started.promise;
      clearTimeout(late);
      await this.#execute(start);
      this.#close(1000, 'done');
      return 'exit';
    } catch (error) {
      await this.#fail(error);
      return 'error';
    } finally {
      clearTimeout(late);
      clearInterval(pings);
      for (const { signal, listener } of ends) signal.removeEventListener('abort', listener);
      this.#over.abort();
    }
  }

  async #execute(start: Start): Promise<void> {
    this.#detach = start.detach ?? false;
    this.#process = await this.#guest.start({
      cmd: start.cmd,
      args: start.args,
      env: start.env,
      cwd: start.cwd,
      user: start.user,
      stdin: start.stdin ?? false,
      timeoutMs: start.timeout_sec === undefined ? undefined : start.timeout_sec * 1000,
      killOnDisconnect: !this.#detach,
      signal: this.#over.signal,
    });
    await this.#send({ type: 'start', pid: this.#process.pid });
    void this.#feed();
    const splitters = { stdout: new Utf8Splitter(), stderr: new Utf8Splitter() };
    let exitCode: number | undefined;
    for await (const event of this.#process.events) {
      if (event.type === 'stdout' || event.type === 'stderr') {
        await this.#sendPieces(event.type, splitters[event.type].push(event.data));
        continue;
      }
      for (const stream of ['stdout', 'stderr'] as const) {
        await this.#sendPieces(stream, splitters[stream].end());
      }
      if (event.type !== 'end') throw timeout(start.timeout_sec ?? 0);
      exitCode = event.exitCode;
    }
    if (exitCode !== undefined) return this.#send({ type: 'exit', exit_code: exitCode });
    throw new PerchError('guest_protocol', 'The output of the command ended without its exit code.', {
      id: this.#life.id,
      problem: 'no end event',
    });
  }

  #received(data: Buffer, isBinary: boolean): void {
    try {
      this.#handle(parse(data, isBinary));
    } catch (error) {
      this.#refuse(error);
    }
  }

  #handle(message: ClientMessage): void {
    if (!this.#begun) {
      if (message.type !== 'start') throw problem('must be of type start, as the first one');
      this.#begun = true;
      this.#started.resolve(message);
      return;
    }
    switch (message.type) {
      case 'start':
        throw problem('start came twice; open another connection for another command');
      case 'stdin':
      case 'stdin_close':
        this.#queueStdin(message);
        break;
      case 'signal':
        this.#signal(message.signal);
        break;
      case 'stop':
        // Before the command has a pid there is nothing to signal: the start itself is given up.
        if (this.#process) this.#signal('SIGKILL');
        else this.#over.abort(new Error('stopped'));
        break;
    }
  }

  #signal(name: SignalName): void {
    if (!this.#process?.pid) return;
    // It may have ended at the same moment; its exit says so.
    this.#guest.signal(this.#process.pid, name).catch(() => {});
  }

  /** Stdin waits in order; when too much of it waits, nothing more is read from the client. */
  #queueStdin(message: Stdin): void {
    this.#stdin.push(message);
    this.#stdinBytes += sizeOf(message);
    if (this.#stdinBytes > maxUnreadStdin && !this.#paused) {
      this.#paused = true;
      this.#socket.pause();
    }
    void this.#feed();
  }

  async #feed(): Promise<void> {
    if (this.#feeding || !this.#process?.pid) return;
    this.#feeding = true;
    const { pid } = this.#process;
    for (let next = this.#stdin.shift(); next; next = this.#stdin.shift()) {
      try {
        if (next.type === 'stdin_close') await this.#guest.closeStdin(pid, this.#over.signal);
        else await this.#guest.sendStdin(pid, bytesOf(next), this.#over.signal);
      } catch {
        // The command ended or closed its stdin: what is sent to it is lost, as in a shell's pipe.
      }
      this.#stdinBytes -= sizeOf(next);
      if (this.#paused && this.#stdinBytes <= maxUnreadStdin / 2) {
        this.#paused = false;
        this.#alive = true;
        this.#socket.resume();
      }
    }
    this.#feeding = false;
  }

  /**
   * A peer that did not answer the last ping is gone. While it is not read from it cannot answer, and while
   * it reads slowly it has not seen the ping: a peer that is gone then is TCP's to notice.
   */
  #ping(): void {
    if (this.#paused || this.#socket.bufferedAmount > 0) return;
    if (!this.#alive) {
      this.#socket.terminate();
      return;
    }
    this.#alive = false;
    this.#socket.ping();
  }

  async #sendPieces(stream: 'stdout' | 'stderr', pieces: Piece[]): Promise<void> {
    for (const piece of pieces) {
      await this.#send(
        'text' in piece
          ? { type: stream, data: piece.text }
          : { type: stream, data_base64: piece.bytes.toString('base64') },
      );
    }
  }

  /** Waits until the client has taken what was sent before, when that is much. */
  async #send(message: ExecServerMessage): Promise<void> {
    this.#over.signal.throwIfAborted();
    await this.#write(message);
  }

  async #write(message: ExecServerMessage): Promise<void> {
    if (this.#socket.readyState !== open) return;
    const sent = new Promise<void>((resolve) => {
      this.#socket.send(JSON.stringify(message), () => resolve());
    });
    if (this.#socket.bufferedAmount > maxUnsentBytes) await sent;
  }

  #refuse(error: unknown): void {
    this.#over.abort(error);
  }

  async #fail(thrown: unknown): Promise<void> {
    const { signal } = this.#over;
    const cause = this.#life.signal.aborted
      ? this.#life.signal.reason
      : signal.aborted
        ? signal.reason
        : thrown;
    const error =
      cause instanceof PerchError
        ? cause
        : new PerchError('internal', 'The command could not be followed to its end.', {}, { cause });
    this.#over.abort(error);
    if (this.#socket.readyState !== open) return;
    const { code, message, remedy } = error;
    await this.#write({ type: 'error', error: { code, message, remedy } });
    this.#close(code === 'validation_failed' ? 1008 : code === 'shutting_down' ? 1001 : 1011, code);
  }

  #close(code: number, reason: string): void {
    if (this.#socket.readyState !== open) return;
    this.#socket.close(code, reason);
    // A peer that does not answer the close is cut off.
    setTimeout(() => this.#socket.terminate(), 5_000).unref();
  }
}

function parse(data: Buffer, isBinary: boolean): ClientMessage {
  if (isBinary) throw problem('must be text, not binary');
  let value: unknown;
  try {
    value = JSON.parse(data.toString('utf8'));
  } catch {
    throw problem('must be JSON');
  }
  const { type } = checkType(value);
  const message = checks.get(type)?.(value);
  if (!message) throw problem('is of an unknown type');
  if (message.type === 'stdin' && (message.data === undefined) === (message.data_base64 === undefined)) {
    throw problem('of type stdin must have one of data and data_base64');
  }
  return message;
}

/** What came of the output was sent already. */
function timeout(timeoutSec: number): PerchError {
  const message = `The command took longer than ${timeoutSec} s and was killed.`;
  return new PerchError('exec_timeout', message, {
    timeout_sec: timeoutSec,
    stdout: '',
    stderr: '',
    encoding: { stdout: 'utf-8', stderr: 'utf-8' },
    truncated: { stdout: false, stderr: false },
  });
}

function problem(message: string): PerchError {
  return new PerchError('validation_failed', `the message ${message}`, {
    problems: [{ where: 'the message', message }],
  });
}

function sizeOf(message: Stdin): number {
  return message.type === 'stdin' ? (message.data ?? message.data_base64 ?? '').length + 64 : 64;
}

function bytesOf(message: Extract<Stdin, { type: 'stdin' }>): Buffer {
  return message.data === undefined
    ? Buffer.from(message.data_base64 ?? '', 'base64')
    : Buffer.from(message.data, 'utf8');
}

/** The largest message a client may send: a `start` with a full environment and arguments fits. */
export const maxMessageBytes = 16 * 1024 * 1024;
