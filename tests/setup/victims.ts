/** Ends processes of a Perch as `kill -9` does, each found as it is now. */
import { readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { daemonPid, monitors, postmasterPid, processState } from './machine.ts';
import { slowness } from './slowness.ts';

export type Victim = 'perch-host' | 'perchd' | 'postgres' | 'monitor' | 'helper';

interface Killed {
  victim: Victim;
  /** The kind of helper; the sandbox of a monitor. */
  which?: string;
}

/** The programs with which a machine ends. */
const ofMachine = /^(qemu-system|firecracker$|perch-pager$)/;

/** How long a helper is waited for: most live for some milliseconds. */
const helperMs = 500 * slowness;

/**
 * Resolves when it has ended.
 * @param monitor which of several: a number in [0, 1), or the sandbox that it runs
 * @returns undefined when there was none
 */
export async function kill(
  victim: Victim,
  dataDir: string,
  monitor: number | string,
): Promise<Killed | undefined> {
  if (victim === 'helper') {
    const found = await findHelper(dataDir);
    return found && (await end(found.pid)) ? { victim, which: found.name } : undefined;
  }
  if (victim === 'monitor') {
    const all = [...monitors(dataDir)].sort(([a], [b]) => (a < b ? -1 : 1));
    const isChosen = (id: string, i: number) =>
      typeof monitor === 'string' ? id === monitor : i === Math.floor(monitor * all.length);
    const [which, pid] = all.find(([id], i) => isChosen(id, i)) ?? [];
    return which !== undefined && (await end(pid)) ? { victim, which } : undefined;
  }
  return (await end(victim === 'postgres' ? postmasterPid(dataDir) : daemonPid(dataDir, victim)))
    ? { victim }
    : undefined;
}

async function end(pid: number | undefined): Promise<boolean> {
  try {
    if (pid === undefined || !process.kill(pid, 'SIGKILL')) return false;
  } catch {
    return false;
  }
  // Its parent may notice later.
  while (![undefined, 'Z'].includes(processState(pid))) await sleep(1);
  return true;
}

/** A tool that the host agent has started and waits for, or one that is about to become a monitor. */
async function findHelper(dataDir: string): Promise<{ pid: number; name: string } | undefined> {
  const host = daemonPid(dataDir, 'perch-host');
  for (const until = performance.now() + helperMs; performance.now() < until; await sleep(1)) {
    for (const pid of children(host)) {
      const name = program(pid);
      if (name !== undefined && !ofMachine.test(name)) return { pid, name };
    }
  }
  return undefined;
}

function children(pid: number | undefined): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** Undefined when it has ended. */
function program(pid: number): string | undefined {
  try {
    return basename(readlinkSync(`/proc/${pid}/exe`));
  } catch {
    return undefined;
  }
}
