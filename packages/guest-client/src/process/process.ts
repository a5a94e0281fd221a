/** Starting a command, and its life until the end. */
import type { Readable } from 'node:stream';
import { quoted } from '@perch/node-kit';
import type { TerminalSize } from '@perch/protocol';
import { guestProtocol, startError } from '../errors.ts';
import { keepalives, type StreamOptions } from '../frames.ts';
import { Refused, type Transport } from '../transport.ts';
import type { ProcessMessage, Replay } from './messages.ts';
import { readProcessStream } from './stream.ts';

export interface StartOptions extends StreamOptions {
  cmd: string;
  args?: readonly string[] | undefined;
  env?: Readonly<Record<string, string>> | undefined;
  cwd?: string | undefined;
  user?: string | undefined;
  /** Keep standard input open for `sendStdin`. */
  stdin: boolean;
  /** A terminal of this size: it takes input, and its output is `stdout`. */
  pty?: TerminalSize | undefined;
  /** The agent kills the process group after this time, and the events end with `timeout`. */
  timeoutMs?: number | undefined;
  /**
   * Until when the agent kills the process group if the stream breaks off: until it has told the pid, or the end.
   * Default: it never does.
   */
  leash?: 'start' | 'end' | undefined;
}

/** The last one is `end` or `timeout`. */
export type ProcessEvent =
  | { type: 'stdout' | 'stderr'; data: Buffer }
  /** 127: no such command, 126: it cannot be executed, 128 + n: ended by signal n. */
  | { type: 'end'; exitCode: number; signal?: number; reason?: 'out_of_memory' }
  /** Unless the agent says that the time is over, nobody knows whether the command has ended. */
  | { type: 'timeout'; unanswered?: true };

export interface GuestProcess {
  /** 0 when nothing was started: the events say 126 or 127. */
  pid: number;
  /** To be iterated once. Leaving the iteration ends the stream. */
  events: AsyncIterable<ProcessEvent>;
  /** Ends the process group. */
  kill(): Promise<void>;
}

/** Output as bytes, and not as base64 in JSON, which costs the guest more than passing it on. */
const rawOutput = { 'perch-raw-output': '1' };

type Messages = AsyncGenerator<ProcessMessage, void, void>;

/** Resolves when the command runs, or when it turned out that there is none. */
export async function startProcess(
  transport: Transport,
  options: StartOptions,
  kill: (pid: number) => Promise<unknown>,
): Promise<GuestProcess> {
  const { cmd, args = [], env = {}, cwd, user, stdin, pty, timeoutMs, leash, signal } = options;
  const { sandboxId, graceMs } = transport.options;
  const subject = { sandboxId, user, cwd };
  const headers: Record<string, string> = { ...keepalives, ...rawOutput };
  if (leash) headers['perch-kill-on-disconnect'] = leash === 'start' ? 'start' : '1';
  if (timeoutMs !== undefined) headers['connect-timeout-ms'] = String(Math.ceil(timeoutMs));
  const deadline = timeoutMs === undefined ? undefined : new Deadline(timeoutMs + graceMs, signal);
  let body: Readable | undefined;
  try {
    body = await transport.stream({
      path: '/process.Process/Start',
      body: {
        process: { cmd, args, envs: env, ...(cwd === undefined ? {} : { cwd }) },
        ...(pty ? { pty: { size: pty } } : { stdin }),
      },
      user,
      signal: deadline?.signal ?? signal,
      headers,
    });
    body.once('close', () => deadline?.clear());
    const messages = readProcessStream(body, sandboxId, options);
    const first = (await messages.next()).value;
    if (first?.type !== 'start') {
      throw guestProtocol(sandboxId, 'the first message is not start');
    }
    const { pid } = first;
    return {
      pid,
      events: processEvents(messages, deadline, transport),
      async kill() {
        await kill(pid);
      },
    };
  } catch (error) {
    body?.destroy();
    deadline?.clear();
    if (deadline?.passed) return { pid: 0, events: events([unanswered]), async kill() {} };
    if (!(error instanceof Refused)) throw error;
    const told = neverStarted(error);
    if (!told) throw startError(error.refusal, subject);
    return { pid: 0, events: told, async kill() {} };
  }
}

export interface AttachedProcess extends GuestProcess, Replay {}

/** Kept output first, then what follows. @throws {Refused} not_found */
export async function attachProcess(
  transport: Transport,
  pid: number,
  options: StreamOptions,
  kill: (pid: number) => Promise<unknown>,
): Promise<AttachedProcess> {
  const { sandboxId } = transport.options;
  const body = await transport.stream({
    path: '/process.Process/Connect',
    body: { process: { pid }, replay: true },
    signal: options.signal,
    headers: { ...keepalives, ...rawOutput },
  });
  try {
    const messages = readProcessStream(body, sandboxId, options);
    const first = (await messages.next()).value;
    if (first?.type !== 'start' || !first.replay) {
      throw guestProtocol(sandboxId, 'the first message is no start with a replay');
    }
    return {
      pid: first.pid,
      ...first.replay,
      events: processEvents(messages, undefined, transport),
      async kill() {
        await kill(first.pid);
      },
    };
  } catch (error) {
    body.destroy();
    throw error;
  }
}

const unanswered = { type: 'timeout', unanswered: true } as const;

/** A guest that does not keep a time-out, or does not answer at all, is cut off. */
class Deadline {
  passed = false;
  /** Aborts when the time is over, and with the caller's. */
  readonly signal: AbortSignal;
  readonly #timer: NodeJS.Timeout;

  constructor(ms: number, signal: AbortSignal | undefined) {
    const late = new AbortController();
    this.signal = signal ? AbortSignal.any([signal, late.signal]) : late.signal;
    // Longer delays than a timer takes are as good as none.
    this.#timer = setTimeout(
      () => {
        this.passed = true;
        late.abort(new Error('the time of the command is over'));
      },
      Math.min(ms, 2 ** 31 - 1),
    );
    this.#timer.unref();
  }

  clear(): void {
    clearTimeout(this.#timer);
  }
}

async function* processEvents(
  messages: Messages,
  deadline: Deadline | undefined,
  transport: Transport,
): AsyncGenerator<ProcessEvent, void, void> {
  const { sandboxId } = transport.options;
  let ended = false;
  try {
    for await (const message of messages) {
      if (ended || message.type === 'start') throw guestProtocol(sandboxId, `${message.type} out of order`);
      if (message.type === 'keepalive') continue;
      ended = message.type === 'end';
      yield message;
    }
  } catch (error) {
    if (error instanceof Refused && error.refusal.code === 'deadline_exceeded') {
      yield { type: 'timeout' };
      return;
    }
    if (deadline?.passed) {
      yield unanswered;
      return;
    }
    throw error instanceof Refused ? startError(error.refusal, { sandboxId }) : error;
  } finally {
    deadline?.clear();
  }
  if (!ended) throw guestProtocol(sandboxId, 'the stream of a process has no exit code');
}

/** The events of a command that is not there, or that the kernel does not execute; as a shell tells it. */
function neverStarted({ refusal }: Refused): AsyncIterable<ProcessEvent> | undefined {
  const { code, message } = refusal;
  const exitCode =
    code === 'not_found' && message.startsWith('command not found')
      ? 127
      : code === 'permission_denied' && message.startsWith('cannot execute')
        ? 126
        : undefined;
  if (code === 'deadline_exceeded') return events([{ type: 'timeout' }]);
  if (exitCode === undefined) return undefined;
  return events([
    { type: 'stderr', data: Buffer.from(`${quoted(message)}\n`) },
    { type: 'end', exitCode },
  ]);
}

async function* events(list: ProcessEvent[]): AsyncGenerator<ProcessEvent, void, void> {
  yield* list;
}
