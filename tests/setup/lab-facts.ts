/**
 * Facts that a script in the lab has seen, for a test outside: one process sees all of them, since each start of the
 * command line takes the lab half a minute.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

const lab = join(import.meta.dirname, '../../lab/main.ts');
/** The time that the lab takes for what takes 1 on a machine; the probe gives KVM less time than a guest takes there. */
const settings = ['NO_COLOR=1', 'PERCH_ROOTFS=device-mapper', 'PERCH_VMM=qemu-kvm', 'PERCH_TEST_SLOWNESS=20'];
/** A run of tests, in the lab, on disks of device-mapper. @param args settings that differ, `NAME=value`, and those of vitest */
export const testsInLab = (...args: string[]): string[] => {
  const first = args.findIndex((arg) => !/^[A-Z_]+=/.test(arg));
  return [
    ...['env', ...settings, ...args.slice(0, first)],
    ...['vitest', 'run', '--reporter=verbose', ...args.slice(first)],
  ];
};

/** The file systems that a test in the lab is run on; all by default. */
export const labFileSystems = (process.env.PERCH_LAB_DATA ?? 'ext4,xfs').split(',');
/** The first run boots the lab, and all in it takes many times what it takes on a machine. */
export const labMs = 3_000_000;

/** By name. */
export class LabFacts {
  readonly #seen: Record<string, unknown> = {};

  /** Tells it as it is seen, too: a run takes minutes. */
  add(name: string, value: unknown): void {
    this.#seen[name] = value;
    console.error(`${(performance.now() / 1000).toFixed(0)} s ${name} ${JSON.stringify(value)}`);
  }

  /** The last line of the script. */
  tell(): void {
    console.log(JSON.stringify(this.#seen));
  }
}

/**
 * Runs a command in the lab, again when the lab dies: emulated virtualization ends many runs, most of them while a guest starts.
 * @param options of the lab
 * @returns its output
 * @throws Error with its last lines when it fails
 */
export async function inLab(command: readonly string[], ...options: string[]): Promise<string> {
  const run = spawn(process.execPath, [lab, '--repeat', '5', ...options, '--', ...command], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // A run that is about to be too late shows how far it is, and one that failed all that it said.
  for (const output of [run.stdout, run.stderr]) output.pipe(process.stderr, { end: false });
  const [stdout, stderr, [code]] = await Promise.all([
    text(run.stdout),
    text(run.stderr),
    once(run, 'exit') as Promise<[number | null]>,
  ]);
  if (code !== 0)
    throw new Error(
      `The run in the lab ended with ${code}:\n${(stdout + stderr).split('\n').slice(-30).join('\n')}`,
    );
  return stdout;
}

/** The same of a script of this folder. */
export async function factsOf(
  [script, ...args]: readonly [script: string, ...args: string[]],
  ...options: string[]
): Promise<Record<string, unknown>> {
  const stdout = await inLab(['node', `tests/setup/${script}`, ...args], ...options);
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>;
}
