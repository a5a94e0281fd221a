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

/**
 * Runs a command to its end and gives its output whole. It is killed when its time is over, when `gone`
 * aborts, and with the sandbox.
 */
export async function runCommand(
  guest: Guest,
  life: Life,
  request: ExecRequest,
  gone: AbortSignal,
  limit = outputLimit,
): Promise<ExecResult> {
  const timeoutSec = request.timeout_sec ?? limits.exec.timeoutSecDefault;
  const stdout = new OutputCollector(limit);
  const stderr = new OutputCollector(limit);
  const started = performance.now();
  const stop = new AbortController();
  const end = () => stop.abort();
  gone.addEventListener('abort', end, { once: true });
  if (gone.aborted) end();
  let timedOut = false;
  // The guest agent keeps the time; this one holds when the guest does not answer any more.
  const timer = setTimeout(
    () => {
      timedOut = true;
      end();
    },
    timeoutSec * 1000 + graceMs,
  );
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
    if (timedOut) throw timeout(true);
    if (life.signal.aborted) throw life.signal.reason;
    throw error;
  } finally {
    clearTimeout(timer);
    gone.removeEventListener('abort', end);
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
      leash: 'end',
      signal: stop.signal,
    });
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

async function feed(guest: Guest, pid: number, data: Buffer, signal: AbortSignal): Promise<void> {
  if (await guest.sendStdin(pid, data, signal)) await guest.closeStdin(pid, signal);
}
