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
  type TerminalSize,
} from '@perch/protocol';
import type { Guest } from '../guests/index.ts';
import type { Life } from '../sandboxes/index.ts';
import { maxUnsentBytes, open, Pings, type ServerSocket } from '../sockets/index.ts';
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

/** Of the details of a time-out: the output so far was sent already. */
const sentAlready = {
  ...{ stdout: '', stderr: '' },
  encoding: { stdout: 'utf-8', stderr: 'utf-8' },
  truncated: { stdout: false, stderr: false },
};
const startWithinMs = 10_000;
/** Of what is not this end's fault; else 1011. */
const closeCodes: Partial<Record<ErrorCode, number>> = {
  validation_failed: 1008,
  stdin_not_open: 1008,
  command_not_found: 1008,
  shutting_down: 1001,
};

export class ExecSession {
  readonly #socket: ServerSocket;
  readonly #guest: Guest;
  readonly #life: Life;
  readonly #shutdown: AbortSignal;
  /** Aborts when the connection is over, for whatever reason. */
  readonly #over = new AbortController();
  readonly #started = Promise.withResolvers<Start | Attach>();
  readonly #input: Input;
  #first: Start | Attach | undefined;
  #process: GuestProcess | AttachedProcess | undefined;
  /** The latest size of the terminal, until it is sent. */
  #size: TerminalSize | undefined;
  #resizing = false;
  #ended = false;
  #paused = false;
  readonly #pings: Pings;

  constructor(socket: ServerSocket, guest: Guest, life: Life, shutdown: AbortSignal) {
    this.#socket = socket;
    this.#guest = guest;
    this.#life = life;
    this.#shutdown = shutdown;
    this.#pings = new Pings(socket, () => this.#paused);
    this.#input = new Input({ guest, signal: this.#over.signal, hold: (held) => this.#hold(held) });
  }

  /** Resolves when the connection is over and the command with it, unless it is to live on. */
  async run(): Promise<'exit' | 'error'> {
    this.#started.promise.catch(() => {});
    this.#socket.on('message', (data, isBinary) => this.#received(data, isBinary));
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
      this.#pings[Symbol.dispose]();
      for (const { signal, listener } of ends) signal.removeEventListener('abort', listener);
      this.#over.abort();
      await this.#leave();
    }
  }

  async #follow(first: Start | Attach): Promise<void> {
    const process = first.type === 'start' ? await this.#start(first) : await this.#attach(first);
    this.#input.begin(process.pid);
    this.#sendSize();
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
        pty: start.pty,
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
        if (this.#first.type === 'start' && this.#first.pty) {
          throw problem('of type stdin_close cannot end the input of a terminal; type \\u0004 for that');
        }
        this.#input.close();
        break;
      case 'resize':
        this.#resize(message);
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
    if (first?.type === 'start' && !first.stdin && !first.pty)
      throw notOpen(this.#process?.pid, 'without being asked for');
    if (this.#process && 'stdin' in this.#process && !this.#process.stdin) {
      throw notOpen(this.#process.pid, 'for a command without it');
    }
    this.#input.push(bytes, memory);
  }

  /** Before the command has a pid the latest one waits for it. */
  #resize({ cols, rows }: TerminalSize): void {
    if (this.#first?.type === 'start' && !this.#first.pty) {
      throw problem('of type resize is for a command with a terminal; start asked for none');
    }
    this.#size = { cols, rows };
    this.#sendSize();
  }

  /** One after the other, so that the last one holds. A command without a terminal has no size. */
  #sendSize(): void {
    const [size, pid] = [this.#size, this.#process?.pid];
    if (!size || !pid || this.#resizing) return;
    this.#size = undefined;
    this.#resizing = true;
    const goOn = () => {
      this.#resizing = false;
      this.#sendSize();
    };
    this.#guest.resize(pid, size).then(goOn, goOn);
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
    this.#pings.answered();
    this.#socket.resume();
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
