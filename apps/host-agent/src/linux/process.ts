/** Processes, with their users. See also `process.ts` of packages/node-kit. */
import { readFileSync, statSync } from 'node:fs';
import { ofProcess, type ProcessStat, pids, readStat } from '@perch/node-kit';

/** Identity of a process that outlives us: a pid alone may name another process later. */
export interface ProcessRef {
  pid: number;
  /** Start time, clock ticks since boot. */
  startTime: number;
}

export interface ProcessInfo extends ProcessStat {
  /** Effective user. */
  uid: number;
}

/** The effective uid in /proc/PID/status, whose `Uid:` line is real, effective, saved, file system. */
export function parseStatusUid(text: string): number | undefined {
  const field = /^Uid:\t\d+\t(\d+)\t/m.exec(text)?.[1];
  return field === undefined ? undefined : Number(field);
}

/** @returns undefined when there is no such process */
export function readProcess(pid: number): ProcessInfo | undefined {
  const stat = readStat(pid);
  const uid = ofProcess(() => parseStatusUid(readFileSync(`/proc/${pid}/status`, 'latin1')));
  return stat && uid !== undefined ? { ...stat, uid } : undefined;
}

/**
 * Whether the process that was started then still runs. A process that ended and waits to be reaped does not:
 * its parent may be a supervisor that takes its time.
 */
export function isAlive({ pid, startTime }: ProcessRef): boolean {
  const now = readStat(pid);
  return now !== undefined && now.startTime === startTime && !hasEnded(now);
}

function hasEnded({ state, threads }: ProcessStat): boolean {
  return state === 'X' || (state === 'Z' && threads <= 1);
}

/** Every live process; zombies are left out. */
export function processes(): ProcessInfo[] {
  return pids()
    .map(readProcess)
    .filter((info) => info !== undefined)
    .filter((info) => !hasEnded(info));
}

/** Those of a user. Walks all of /proc. */
export function processesOfUid(uid: number): ProcessInfo[] {
  return processes().filter((info) => info.uid === uid);
}

/**
 * Whether a process has this directory as its working directory; false when either is gone. By device and inode: that of
 * a process in a jail has another path in its mount namespace.
 */
export function worksIn(pid: number, dir: string): boolean {
  const [wanted, found] = [placeOf(dir), ofProcess(() => placeOf(`/proc/${pid}/cwd`))];
  return wanted !== undefined && wanted === found;
}

function placeOf(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat && `${stat.dev}:${stat.ino}`;
}
