/**
 * One `exec/stream` connection: `start` or `attach` from the client, then output until `exit` or `error`. Output
 * is read from the guest only as fast as the client takes it. A command whose client goes is killed from here and
 * not by the guest agent, so that the end of perchd itself ends none.
 */

import type { AttachedProcess, GuestProcess } from '@perch/guest-client';
import {
  type ErrorCode,
  type ExecServerMessage,
  isPerchError,
  PerchError,
  resumableStatuses,
  type SignalName,
  streamNumbers,
} from '@perch/protocol';
import type { Guest } from '../guests/index.ts';
import type { Life } from '../sandboxes/index.ts';
import { Input, notOpen } from './input.ts';
import {
  type Attach,
  bytesOf,
  type ClientMessage,
  parse,
  parseStdin,
  problem,
  type Start,
} from './messages.ts';
import { outputMemory } from './output-memory.ts';
import { pidWithinMs } from './run.ts';
import { timeoutError } from './timeout-error.ts';
import { toPiece, Utf8Splitter } from './utf8.ts';

/** The part of a WebSocket that the session needs. */
export interface ExecSocket {
  readonly bufferedAmount: number;
  readonly readyState: number;
  send(data: string | Buffer, done: (error?: Error | null) => void): void;
  ping(): void;
  pause(): void;
  resume(): void;
  close(code: number, reason: string): void;
  terminate(): void;
  on(event: 'message', listener: (data: Buffer, isBinary: boolean) => void): unknown;
  on(event: 'pong' | 'close', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

/** Of the details of a time-out: the output so far was sent already. */
const sentAlready = {
  ...{ stdout: '', stderr: '' },
  encoding: { stdout: 'utf-8', stderr: 'utf-8' },
  truncated: { stdout: false, stderr: false },
};
const pingMs = 20_000;
const startWithinMs = 10_000;
const maxUnsentBytes = 1024 * 1024;
const open = 1;
/** Of what is not this end's fault; else 1011. */
const closeCodes: Partial<Record<ErrorCode, number>> = {
  validation_failed: 1008,
  stdin_not_open: 1008,
  command_not_found: 1008,
  shutting_down: 1001,
};

export class ExecSession {
  readonly #socket: ExecSocket;
  readonly #guest: Guest;
  readonly #life: Life;
  readonly #shutdown: AbortSignal;
  /** Aborts when the connection is over, for whatever reason. */
  readonly #over = new AbortController();
  readonly #started = Promise.withResolvers<Start | Attach>();
  readonly #input: Input;
  #first: Start | Attach | undefined;
  #process: GuestProcess | AttachedProcess | undefined;
  #ended = false;
  #paused = false;
  #alive = true;

  constructor(socket: ExecSocket, guest: Guest, life: Life, shutdown: AbortSignal) {
    this.#socket = socket;
    this.#guest = guest;
    this.#life = life;
    this.#shutdown = shutdown;
    this.#input = new Input({ guest, signal: this.#over.signal, hold: (held) => this.#hold(held) });
  }

  /** Resolves when the connection is over and the command with it, unless it is to live on. */
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
      const first = await this.#started.promise;
      clearTimeout(late);
      await this.#follow(first);
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
      await this.#leave();
    }
  }

  async #follow(first: Start | Attach): Promise<void> {
    const process = first.type === 'start' ? await this.#start(first) : await this.#attach(first);
    this.#input.begin(process.pid);
    const { prepend } = outputMemory;
    const splitters = { stdout: new Utf8Splitter(prepend), stderr: new Utf8Splitter(prepend) };
    let exit: { exit_code: number; reason?: 'out_of_memory' } | undefined;
    for await (const event of process.events) {
      if (event.type === 'stdout' || event.type === 'stderr') {
        await this.#sendOutput(event.type, splitters[event.type].push(event.data));
        continue;
      }
      this.#ended = true;
      for (const stream of ['stdout', 'stderr'] as const) {
        await this.#sendOutput(stream, splitters[stream].end());
      }
      if (event.type !== 'end') {
        const unanswered = event.type === 'timeout' && event.unanswered;
        throw timeoutError((first as Start).timeout_sec ?? 0, unanswered === true, sentAlready);
      }
      exit = { exit_code: event.exitCode, ...(event.reason ? { reason: event.reason } : {}) };
    }
    if (exit) return this.#send({ type: 'exit', ...exit });
    throw new PerchError('guest_protocol', 'The output of the command ended without its exit code.', {
      id: this.#life.id,
      problem: 'no end event',
    });
  }

  async #start(start: Start): Promise<GuestProcess> {
    const { signal } = this.#over;
    const giveUp = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const wait = () => {
      timer = setTimeout(() => giveUp.abort(signal.reason), pidWithinMs);
    };
    signal.addEventListener('abort', wait, { once: true });
    try {
      const process = await this.#guest.start({
        cmd: start.cmd,
        args: start.args,
        env: start.env,
        cwd: start.cwd,
        user: start.user,
        stdin: start.stdin ?? false,
        timeoutMs: start.timeout_sec === undefined ? undefined : start.timeout_sec * 1000,
        leash: start.detach ? undefined : 'start',
        allocate: outputMemory.allocate,
        signal: giveUp.signal,
      });
      this.#process = process;
      signal.throwIfAborted();
      // From now on the end of the connection is that of the stream.
      signal.addEventListener('abort', () => giveUp.abort(signal.reason), { once: true });
      await this.#send({ type: 'start', pid: process.pid });
      return process;
    } finally {
      signal.removeEventListener('abort', wait);
      clearTimeout(timer);
    }
  }

  async #attach({ pid }: Attach): Promise<AttachedProcess> {
    const how = { allocate: outputMemory.allocate, signal: this.#over.signal };
    const process = await this.#guest.attach(pid, how);
    this.#process = process;
    await this.#send({ type: 'start', pid, truncated: process.truncated });
    return process;
  }

  /** A command goes with its client, but not with this process, nor with a life that is paused. */
  async #leave(): Promise<void> {
    const stays = this.#first?.type === 'attach' || this.#first?.detach;
    if (stays || this.#ended || this.#shutdown.aborted || this.#life.signal.aborted) return;
    if (this.#process?.pid) await this.#guest.signal(this.#process.pid, 'SIGKILL').catch(() => {});
  }

  #received(data: Buffer, isBinary: boolean): void {
    try {
      if (isBinary) this.#handleBinary(data);
      else this.#handle(parse(data));
    } catch (error) {
      this.#refuse(error);
    }
  }

  #handleBinary(data: Buffer): void {
    if (!this.#first?.binary) throw problem('must be text: start did not ask for binary ones');
    this.#takeStdin(parseStdin(data), data);
  }

  #handle(message: ClientMessage): void {
    if (!this.#first) {
      if (message.type !== 'start' && message.type !== 'attach') {
        throw problem('must be of type start or attach, as the first one');
      }
      this.#first = message;
      this.#started.resolve(message);
      return;
    }
    switch (message.type) {
      case 'start':
      case 'attach':
        throw problem(`${message.type} came second; open another connection for another command`);
      case 'stdin': {
        const bytes = bytesOf(message);
        this.#takeStdin(bytes, bytes);
        break;
      }
      case 'stdin_close':
        this.#input.close();
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

  /** Before the answer to an `attach` nobody knows; what comes too early is lost with a command that takes none. */
  #takeStdin(bytes: Buffer, memory: Buffer): void {
    const first = this.#first;
    if (first?.type === 'start' && !first.stdin) throw notOpen(this.#process?.pid, 'without being asked for');
    if (this.#process && 'stdin' in this.#process && !this.#process.stdin) {
      throw notOpen(this.#process.pid, 'for a command without it');
    }
    this.#input.push(bytes, memory);
  }

  #signal(name: SignalName): void {
    if (!this.#process?.pid) return;
    // It may have ended at the same moment; its exit says so.
    this.#guest.signal(this.#process.pid, name).catch(() => {});
  }

  #hold(held: boolean): void {
    this.#paused = held;
    if (held) {
      this.#socket.pause();
      return;
    }
    this.#alive = true;
    this.#socket.resume();
  }

  /**
   * A peer that did not answer the last ping is gone. While it is not read from its answer cannot come, and the ping
   * only tells it that this end lives; while it reads slowly it has not seen the ping. A peer that is gone then is TCP's
   * to notice.
   */
  #ping(): void {
    if (this.#socket.bufferedAmount > 0) return;
    if (!this.#paused) {
      if (!this.#alive) {
        this.#socket.terminate();
        return;
      }
      this.#alive = false;
    }
    this.#socket.ping();
  }

  async #sendOutput(stream: 'stdout' | 'stderr', pieces: Buffer[]): Promise<void> {
    for (const bytes of pieces) {
      this.#over.signal.throwIfAborted();
      if (this.#first?.binary) {
        await this.#write(outputMemory.prepend(Buffer.of(streamNumbers[stream]), bytes));
        continue;
      }
      const piece = toPiece(bytes);
      const message =
        'text' in piece ? { data: piece.text } : { data_base64: piece.bytes.toString('base64') };
      outputMemory.free(bytes);
      await this.#write(JSON.stringify({ type: stream, ...message } satisfies ExecServerMessage));
    }
  }

  /** Waits until the client has taken what was sent before, when that is much. */
  async #send(message: ExecServerMessage): Promise<void> {
    this.#over.signal.throwIfAborted();
    await this.#write(JSON.stringify(message));
  }

  async #write(message: string | Buffer): Promise<void> {
    if (this.#socket.readyState !== open) return;
    const sent = new Promise<void>((resolve) => {
      this.#socket.send(message, (error) => {
        if (!error && typeof message !== 'string') outputMemory.free(message);
        resolve();
      });
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
    const error: PerchError =
      cause instanceof PerchError
        ? cause
        : new PerchError('internal', 'The command could not be followed to its end.', {}, { cause });
    this.#over.abort(error);
    if (this.#socket.readyState !== open) return;
    const { code } = error;
    const body = error.toBody().error;
    const message = body.message + this.#outlook(error);
    const told: ExecServerMessage = { type: 'error', error: { ...body, message } };
    await this.#write(JSON.stringify(told));
    this.#close(closeCodes[code] ?? 1011, code);
  }

  /** A command that outlives its connection is named, so that it can be attached to. */
  #outlook(error: PerchError): string {
    const pid = this.#process?.pid;
    if (!pid || this.#ended) return '';
    if (isPerchError(error, 'shutting_down')) return ` Command ${pid} runs on.`;
    if (isPerchError(error, 'sandbox_not_running') && resumableStatuses.includes(error.details.status)) {
      return ` Command ${pid} goes on when the sandbox is resumed.`;
    }
    return '';
  }

  #close(code: number, reason: string): void {
    if (this.#socket.readyState !== open) return;
    this.#socket.close(code, reason);
    // A peer that does not answer the close is cut off.
    setTimeout(() => this.#socket.terminate(), 5_000).unref();
  }
}
