import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { pids } from '../../packages/node-kit/src/index.ts';

const program = join(import.meta.dirname, 'testing.ts');

/** Makes one of each kind of thing that a test makes, says `ready`, and waits. */
const messing = `
set -e
setsid -f sleep "$1"
ip netns add "perch-$1"
for limits in /sys/fs/cgroup/{,unified/,memory/,cpu/,pids/}cgroup.procs; do
  [ -e "$limits" ] || continue
  group="\${limits%/*}/perch-$1/vm"
  mkdir -p "$group"
  bash -c 'echo $$ > "$0/cgroup.procs"; exec setsid -f sleep "$1"' "$group" "$1"
done
truncate -s 4M "$TMPDIR/$1"
mkfs.ext4 -q "$TMPDIR/$1"
mkdir "$TMPDIR/on"
mount -o loop "$TMPDIR/$1" "$TMPDIR/on"
touch "$TMPDIR/on/here" "/dev/shm/perch-$1"
echo ready
sleep "$1"
`;

/** The things of a run on the machine, its files aside. Each thing carries the run's name. */
function onTheMachine(name: string): string[] {
  const processes = pids().filter((pid) => read(`/proc/${pid}/cmdline`).includes(name));
  const loops = globSync('/sys/block/loop*/loop/backing_file').filter((file) => read(file).includes(name));
  const files = [`/run/netns/perch-${name}`, `/dev/shm/perch-${name}`].filter((path) => existsSync(path));
  return [...processes.map(String), ...loops, ...files];
}

/** Of all runs whose temporary directory is `dir`. */
function leftBehind(dir: string): string[] {
  const runs = readdirSync(dir);
  return [...runs, ...runs.flatMap((run) => globSync(`/sys/fs/cgroup/{,*/}${run}`))];
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function start(dir: string, ...command: string[]): ChildProcess {
  return spawn(process.execPath, [program, ...command], {
    env: { ...process.env, TMPDIR: dir },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** A run that has made its mess. */
async function startMess(dir: string) {
  // An argument of sleep that no other process has.
  const name = `3${randomBytes(4).readUInt32BE()}`;
  const run = start(dir, 'bash', '-c', messing, 'bash', name);
  await once(run.stdout ?? run, 'data');
  const end = async () => {
    if (run.exitCode !== null || run.signalCode !== null) return;
    run.kill('SIGTERM');
    await once(run, 'exit');
  };
  return { run, name, [Symbol.asyncDispose]: end };
}

async function exitCodeOf(run: ChildProcess): Promise<unknown> {
  const [code, signal] = await once(run, 'exit');
  return code ?? signal;
}

describe.runIf(process.getuid?.() === 0)('an enclosure', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('that is ended by %s leaves nothing', async (signal, code) => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-enclosure-'));
    await using mess = await startMess(dir.path);
    const { run, name } = mess;
    expect(onTheMachine(name)).not.toEqual([]);
    const ended = exitCodeOf(run);
    run.kill(signal);
    expect(await ended).toBe(code);
    expect(onTheMachine(name)).toEqual([]);
    expect(leftBehind(dir.path)).toEqual([]);
  });

  test.each(['itself', 'unshare', 'the command'])(
    'leaves no process, mount, loop or file when %s is killed',
    async (whom) => {
      await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-enclosure-'));
      await using mess = await startMess(dir.path);
      const { run, name } = mess;
      const ended = exitCodeOf(run);
      process.kill(
        whom === 'itself' ? (run.pid ?? 0) : whom === 'unshare' ? childOf(run.pid) : mainOf(run.pid),
        'SIGKILL',
      );
      await ended;
      await expect.poll(() => onTheMachine(name)).toEqual([]);
      await expect.poll(() => leftBehind(dir.path)).toEqual([]);
    },
  );

  test('removes the files of a run of which every process was killed', async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-enclosure-'));
    await using mess = await startMess(dir.path);
    const { run } = mess;
    const ended = exitCodeOf(run);
    for (const pid of [sweeperOf(dir.path), run.pid ?? 0]) process.kill(pid, 'SIGKILL');
    await ended;
    expect(leftBehind(dir.path)).not.toEqual([]);
    expect(await exitCodeOf(start(dir.path, 'true'))).toBe(0);
    expect(leftBehind(dir.path)).toEqual([]);
  });

  test('that runs is left alone by another beside it', async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-enclosure-'));
    await using mess = await startMess(dir.path);
    const { run, name } = mess;
    const before = onTheMachine(name);
    expect(await exitCodeOf(start(dir.path, 'true'))).toBe(0);
    expect(onTheMachine(name)).toEqual(expect.arrayContaining(before));
    expect(readdirSync(dir.path)).toHaveLength(1);
    const ended = exitCodeOf(run);
    run.kill('SIGTERM');
    await ended;
    expect(leftBehind(dir.path)).toEqual([]);
  });

  test('ends as its command does, and has a network without a way out, names and groups of its own', async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-enclosure-'));
    const look = 'ip -brief link; ls /run/netns; ls -d /sys/fs/cgroup/{memory/,}perch-* 2>/dev/null; exit 7';
    const run = start(dir.path, 'bash', '-c', look);
    const printed = text(run.stdout as Readable);
    expect(await exitCodeOf(run)).toBe(7);
    expect((await printed).split('\n').map((line) => line.split(' ')[0])).toEqual(['lo', '']);
    expect(leftBehind(dir.path)).toEqual([]);
  });
});

/** The process that removes the files of the run in this directory. */
function sweeperOf(dir: string): number {
  const found = pids().find((pid) => read(`/proc/${pid}/cmdline`).includes(`sweeper.sh\0${dir}/`));
  if (found === undefined) throw new Error('There is no sweeper.');
  return found;
}

/** The first: of the starter it is `unshare`, of an enclosure's process 1 the command. */
function childOf(pid: number | undefined): number {
  const child = Number(read(`/proc/${pid}/task/${pid}/children`).split(' ')[0]);
  if (!(child > 0)) throw new Error(`${pid} has no child.`);
  return child;
}

/** The command of an enclosure: the first child of its process 1. */
function mainOf(pid: number | undefined): number {
  return childOf(childOf(childOf(pid)));
}
