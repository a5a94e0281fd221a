/** Commands in a lab: input, output, signals and exit code pass as if they ran here. */
import { once } from 'node:events';
import { constants } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import type { GuestClient, GuestProcess } from '../packages/guest-client/src/index.ts';

export interface Streams {
  /** Without it the command reads nothing. */
  stdin?: Readable | undefined;
  stdout: Writable;
  stderr: Writable;
}

export interface Place {
  cwd: string;
  env: Record<string, string>;
}

const passed = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;
/** A command that is to end has so long for it. Then the lab ends with it. */
const graceMs = 10_000;

/**
 * Runs a command with these streams, and passes on the signals that this process gets.
 * @returns its exit code, 128 and the number of a signal that ended it
 */
export async function pass(
  agent: GuestClient,
  [cmd = '', ...args]: readonly string[],
  place: Place,
  { stdin, stdout, stderr }: Streams,
): Promise<number> {
  const child = await agent.start({ cmd, args, ...place, stdin: stdin !== undefined, leash: 'end' });
  const left = Promise.withResolvers<number>();
  const listeners = passed.map((signal) => {
    let underWay = false;
    const listener = () => {
      // One Ctrl-C comes twice: from the terminal, and from a parent that passes it on.
      if (underWay) return;
      underWay = true;
      void agent
        .signal(child.pid, signal)
        .catch(() => {})
        .finally(() => {
          underWay = false;
        });
      if (signal !== 'SIGTERM' && signal !== 'SIGHUP') return;
      setTimeout(() => left.resolve(128 + constants.signals[signal]), graceMs).unref();
    };
    process.on(signal, listener);
    return { signal, listener };
  });
  const unread = () => left.resolve(128 + constants.signals.SIGPIPE);
  for (const out of [stdout, stderr]) out.on('error', unread);
  try {
    if (stdin) void feed(agent, child.pid, stdin).catch(() => {});
    return await Promise.race([left.promise, copyOutput(child, stdout, stderr)]);
  } finally {
    for (const { signal, listener } of listeners) process.off(signal, listener);
    stdin?.destroy();
  }
}

async function copyOutput(child: GuestProcess, stdout: Writable, stderr: Writable): Promise<number> {
  for await (const event of child.events) {
    if (event.type === 'end') return event.exitCode;
    if (event.type === 'timeout') break;
    const out = event.type === 'stdout' ? stdout : stderr;
    if (!out.write(event.data)) await once(out, 'drain');
  }
  throw new Error('The lab told no end of the command.');
}

async function feed(agent: GuestClient, pid: number, stdin: Readable): Promise<void> {
  for await (const chunk of stdin as AsyncIterable<Buffer>) {
    if (!(await agent.sendStdin(pid, chunk))) return;
  }
  await agent.closeStdin(pid);
}

/** Runs a command to its end. @throws Error with what it printed when it fails */
export async function runInLab(agent: GuestClient, cmd: string, args: readonly string[]): Promise<void> {
  const child = await agent.start({ cmd, args, stdin: false, leash: 'end' });
  let output = '';
  for await (const event of child.events) {
    if (event.type === 'stdout' || event.type === 'stderr') output = (output + event.data).slice(-8192);
    else if (event.type === 'end' && event.exitCode === 0) return;
  }
  throw new Error(`${cmd} failed in the lab:\n${output}`);
}
