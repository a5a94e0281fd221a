import { once } from 'node:events';
import { isPerchError, resumableStatuses } from '@perch/protocol';
import { ConnectionError, type ExecEvent, type ExecStream, type Perch } from '@perch/sdk';
import { defined } from '../options.ts';
import { exitCodes, type Output, reportError } from '../output.ts';
import { feed } from './feed.ts';
import { forwardSignals } from './signals.ts';

export interface ExecOptions {
  env?: Record<string, string>;
  cwd?: string;
  user?: string;
  timeout?: number;
  /** False with --no-stdin. */
  stdin: boolean;
  detach?: true;
}

/** @returns the exit code for this process */
export async function runCommand(
  perch: Perch,
  id: string,
  command: { cmd: string; args: string[] },
  options: ExecOptions,
  output: Output,
): Promise<number> {
  const { env, cwd, user, timeout, detach } = options;
  const stdin = options.stdin && !detach;
  const start = defined({ ...command, env, cwd, user, timeout_sec: timeout, stdin, detach });
  let stream: ExecStream | undefined;
  try {
    stream = await perch.sandboxes.execStream(id, start);
    if (detach && stream.pid > 0) return detached(stream, output);
    return await follow(stream, stdin, output);
  } catch (error) {
    reportError(error, output.json);
    if (stream) tellHowToFollow(error, id, stream.pid);
    return isPerchError(error, 'exec_timeout') ? exitCodes.execTimeout : exitCodes.execFailed;
  } finally {
    stream?.close();
  }
}

/** Follows a command that was started before. @returns the exit code for this process */
export async function attach(
  perch: Perch,
  id: string,
  pid: number,
  options: { stdin?: true },
  output: Output,
): Promise<number> {
  let stream: ExecStream | undefined;
  try {
    stream = await perch.sandboxes.commands.attach(id, pid);
    if (!output.json) tellMissing(stream.truncated);
    return await print(stream, options.stdin === true, output);
  } catch (error) {
    reportError(error, output.json);
    if (stream) tellHowToFollow(error, id, pid);
    return exitCodes.execFailed;
  } finally {
    stream?.close();
  }
}

function tellMissing({ stdout, stderr }: ExecStream['truncated']): void {
  const cut = [...(stdout ? ['standard output'] : []), ...(stderr ? ['standard error'] : [])].join(', ');
  if (cut)
    process.stderr.write(`Earlier output is missing (${cut}): the last 64 KiB of a stream are kept.\n`);
}

/** After an error that ended the connection and not the command. */
export function tellHowToFollow(error: unknown, id: string, pid: number): void {
  const attach = `perch attach ${id} ${pid}`;
  if (error instanceof ConnectionError) {
    process.stderr.write(`The command may run on; \`${attach}\` follows it then.\n`);
  } else if (isPerchError(error, 'shutting_down')) {
    process.stderr.write(`The command runs on; \`${attach}\` follows it.\n`);
  } else if (isPerchError(error, 'sandbox_not_running') && resumableStatuses.includes(error.details.status)) {
    process.stderr.write(
      `The command goes on with the sandbox; \`perch resume ${id}\`, then \`${attach}\` follows it.\n`,
    );
  }
}

/** Sends signals, and input if it is to, and prints what comes. @returns the exit code of the command */
export async function follow(stream: ExecStream, stdin: boolean, output: Output): Promise<number> {
  using _signals = forwardSignals(stream);
  return await print(stream, stdin, output);
}

async function print(stream: ExecStream, stdin: boolean, output: Output): Promise<number> {
  const feeding = stdin ? feed(process.stdin, stream) : undefined;
  feeding?.catch(() => {});
  let exitCode: number = exitCodes.execFailed;
  for await (const event of stream) {
    if (event.type === 'exit') {
      exitCode = event.exit_code;
      if (event.reason && !output.json) process.stderr.write('The sandbox ran out of memory.\n');
    }
    await printEvent(event, output);
  }
  return exitCode;
}

async function printEvent(event: ExecEvent, output: Output): Promise<void> {
  if (output.json) {
    await write(process.stdout, `${JSON.stringify(jsonOf(event))}\n`);
  } else if (event.type !== 'exit') {
    await write(event.type === 'stdout' ? process.stdout : process.stderr, event.data);
  }
}

function jsonOf(event: ExecEvent): object {
  if (event.type === 'exit') return event;
  const { type, text, data } = event;
  return text === undefined
    ? { type, data_base64: Buffer.from(data).toString('base64') }
    : { type, data: text };
}

/** Waits while the reader of our output is slower than the command. A reader that has gone ends this process. */
async function write(target: NodeJS.WriteStream, data: string | Uint8Array): Promise<void> {
  if (target.write(data)) return;
  await once(target, 'drain');
}

function detached(stream: ExecStream, output: Output): number {
  output.value({ pid: stream.pid });
  output.line(String(stream.pid));
  return exitCodes.ok;
}
