/** `perch run`: a sandbox for one command. */
import { type CreateSandbox, isPerchError } from '@perch/protocol';
import type { ExecStream, Perch } from '@perch/sdk';
import { createdOrNone } from '../created.ts';
import { InterruptedError } from '../interrupt.ts';
import { defined } from '../options.ts';
import { exitCodes, type Output, reportError } from '../output.ts';
import { type ExecOptions, follow } from './run.ts';
import { followTerminal, ownTerminal } from './shell.ts';

type Command = { cmd: string; args: string[] };

/**
 * Creates a sandbox, runs the command in it and destroys the sandbox, whatever ended the command.
 * @returns the exit code for this process
 */
export async function runOnce(
  perch: Perch,
  wished: CreateSandbox,
  command: Command,
  options: Omit<ExecOptions, 'detach'>,
  output: Output,
): Promise<number> {
  const { id } = await createdOrNone(perch, wished);
  using ending = heedSignals();
  try {
    return await runIn(perch, id, command, options, output, ending.signal);
  } finally {
    await perch.sandboxes.delete(id).catch((error: unknown) => {
      if (!isPerchError(error, 'sandbox_not_found')) throw error;
    });
  }
}

async function runIn(
  perch: Perch,
  id: string,
  command: Command,
  { env, cwd, user, timeout, stdin }: Omit<ExecOptions, 'detach'>,
  output: Output,
  ending: AbortSignal,
): Promise<number> {
  const terminal =
    stdin && !output.json && process.stdin.isTTY && process.stdout.isTTY ? ownTerminal() : undefined;
  const input = terminal ? { pty: terminal.pty } : { stdin };
  const start = defined({ ...command, env: { ...terminal?.env, ...env }, cwd, user, timeout_sec: timeout });
  let stream: ExecStream | undefined;
  try {
    stream = await perch.sandboxes.execStream(id, { ...start, ...input }, { signal: ending });
    const close = stream.close.bind(stream);
    ending.addEventListener('abort', close);
    const exitCode = await (terminal ? followTerminal(stream) : follow(stream, stdin, output));
    ending.throwIfAborted();
    return exitCode;
  } catch (error) {
    ending.throwIfAborted();
    reportError(error, output.json);
    return isPerchError(error, 'exec_timeout') ? exitCodes.execTimeout : exitCodes.execFailed;
  } finally {
    stream?.close();
  }
}

const ends = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGPIPE'] as const;

/**
 * Until disposed of, signals do not end this process: a sandbox has to be removed. They abort what is under way, except
 * those that somebody else here listens for, who sends them to the command.
 */
function heedSignals(): { signal: AbortSignal } & Disposable {
  const abort = new AbortController();
  const heed = (name: (typeof ends)[number]) => {
    if (process.listenerCount(name) === 1) abort.abort(new InterruptedError(name));
  };
  for (const name of ends) process.on(name, heed);
  return {
    signal: abort.signal,
    [Symbol.dispose]() {
      for (const name of ends) process.off(name, heed);
    },
  };
}
