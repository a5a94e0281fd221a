/** The `perch` command against the Perch that all files share. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { cli } from './perch-instance.ts';
import { shared } from './shared.ts';

export type Running = ChildProcessByStdio<Writable, Readable, Readable>;

export interface Ended {
  code: number | null;
  out: Buffer;
  stdout: string;
  stderr: string;
}

export class CommandLine {
  readonly #dir: string;

  /** @param dir to run it in */
  constructor(dir = tmpdir()) {
    this.#dir = dir;
  }

  start(args: string[], env: Record<string, string> = {}): Running {
    const child = spawn(process.execPath, [cli, ...args], {
      cwd: this.#dir,
      env: { ...shared.env, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    // A command that does not read its input closes it.
    child.stdin.on('error', () => {});
    return child;
  }

  /** Runs it to its end with `input` as its whole standard input. */
  async run(args: string[], { input = '' as string | Buffer, env = {} } = {}): Promise<Ended> {
    const child = this.start(args, env);
    child.stdin.end(input);
    return end(child);
  }
}

export async function end(child: Running): Promise<Ended> {
  const [out, stderr, [code]] = await Promise.all([
    buffer(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  return { code, out, stdout: out.toString(), stderr };
}

export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
