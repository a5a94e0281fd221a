import type { ProcessEvent } from '@perch/guest-client';
import { type ExecRequest, type ExecResult, limits, PerchError } from '@perch/protocol';
import type { Guest } from '../guests/index.ts';
import type { Life } from '../sandboxes/index.ts';
import { OutputCollector } from './output.ts';
import { timeoutError } from './timeout-error.ts';

/** Bytes kept of each stream. */
export const outputLimit = 8 * 1024 * 1024;
/** How much longer than the guest agent perchd waits for the end of a command's time, ms. */
const graceMs = 500;
/** How long the pid of a command is waited for whose client has gone: by it the command is killed. */
export const pidWithinMs = 5_000;
/** How long a command may still take when perchd goes down: less than its requests have. */
const lastMs = 5_000;

/** Who leaves a command. */
export interface Leaving {
  /** Its client: it goes with that. */
  gone: AbortSignal;
  /** This process: it runs on. */
  shutdown: AbortSignal;
}

/**
 * Runs a command to its end and gives its output whole. It is killed when its time is over, with its client, and with
 * the sandbox.
 */
export async function runCommand(
  guest: Guest,
  life: Life,
  request: ExecRequest,
  { gone, shutdown }: Leaving,
  limit = outputLimit,
): Promise<ExecResult> {
  const timeoutSec = request.timeout_sec ?? limits.exec.timeoutSecDefault;
  const stdout = new OutputCollector(limit);
  const stderr = new OutputCollector(limit);
  const started = performance.now();
  const stop = new AbortController();
  const timers: NodeJS.Timeout[] = [];
  let pid: number | undefined;
  let why: 'gone' | 'late' | 'shutdown' | undefined;
  const end = (reason: typeof why) => {
    if (why) return;
    why = reason;
    if (pid === undefined && why === 'gone') timers.push(setTimeout(() => stop.abort(), pidWithinMs));
    else leave();
  };
  const leave = () => {
    if (pid && why !== 'shutdown') void guest.signal(pid, 'SIGKILL').catch(() => {});
    stop.abort();
  };
  const clientLeaves = () => end('gone');
  const weLeave = () => timers.push(setTimeout(() => end('shutdown'), lastMs));
  gone.addEventListener('abort', clientLeaves, { once: true });
  shutdown.addEventListener('abort', weLeave, { once: true });
  if (gone.aborted) clientLeaves();
  if (shutdown.aborted) weLeave();
  // The guest agent keeps the time; this one holds when the guest does not answer any more.
  timers.push(setTimeout(() => end('late'), timeoutSec * 1000 + graceMs));
  try {
    const { exitCode, reason } = await run();
    const [out, err] = [stdout.result(), stderr.result()];
    return {
      stdout: out.data,
      stderr: err.data,
      exit_code: exitCode,
      ...(reason ? { reason } : {}),
      duration_ms: Math.round((performance.now() - started) * 1000) / 1000,
      encoding: { stdout: out.encoding, stderr: err.encoding },
      truncated: { stdout: out.truncated, stderr: err.truncated },
    };
  } catch (error) {
    if (why === 'late') throw timeout(true);
    if (why === 'shutdown') throw shuttingDown(pid);
    if (life.signal.aborted) throw life.signal.reason;
    throw error;
  } finally {
    for (const timer of timers) clearTimeout(timer);
    gone.removeEventListener('abort', clientLeaves);
    shutdown.removeEventListener('abort', weLeave);
  }

  async function run(): Promise<{ exitCode: number; reason?: 'out_of_memory' }> {
    const { stdin } = request;
    const process = await guest.start({
      cmd: request.cmd,
      args: request.args,
      env: request.env,
      cwd: request.cwd,
      user: request.user,
      stdin: stdin !== undefined,
      timeoutMs: timeoutSec * 1000,
      leash: 'start',
      signal: stop.signal,
    });
    pid = process.pid;
    if (why) leave();
    if (stdin !== undefined && process.pid !== 0) {
      // A command may end, or close its stdin, without reading all: what it says then is the answer.
      void feed(guest, process.pid, Buffer.from(stdin), stop.signal).catch(() => {});
    }
    let end: Extract<ProcessEvent, { type: 'end' }> | undefined;
    // Read to the end of the stream, which leaves its connection fit for the next command.
    for await (const event of process.events) {
      if (event.type === 'end') end = event;
      else if (event.type === 'timeout') throw timeout(event.unanswered === true);
      else (event.type === 'stdout' ? stdout : stderr).push(event.data);
    }
    if (end) return end;
    throw new PerchError('guest_protocol', 'The output of the command ended without its exit code.', {
      id: life.id,
      problem: 'no end event',
    });
  }

  function timeout(unanswered: boolean): PerchError {
    const [out, err] = [stdout.result(), stderr.result()];
    return timeoutError(timeoutSec, unanswered, {
      stdout: out.data,
      stderr: err.data,
      encoding: { stdout: out.encoding, stderr: err.encoding },
      truncated: { stdout: out.truncated, stderr: err.truncated },
    });
  }
}

function shuttingDown(pid: number | undefined): PerchError {
  const outlook = pid ? ` Command ${pid} runs on.` : '';
  return new PerchError('shutting_down', `perchd is shutting down.${outlook}`, {});
}

async function feed(guest: Guest, pid: number, data: Buffer, signal: AbortSignal): Promise<void> {
  if (await guest.sendStdin(pid, data, signal)) await guest.closeStdin(pid, signal);
}
