/**
 * Processes, as /proc shows them. Reads only, and synchronously: such a read is a few microseconds of kernel
 * work that waits for nothing, fifty times less than a round trip through the thread pool.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface ProcessInfo {
  pid: number;
  /** Clock ticks since boot: with the pid, the identity of a process until the next boot. */
  startTime: number;
  /** Effective user. */
  uid: number;
  parent: number;
  /** `R` running, `S` sleeping, `D` waiting for a device, `T` stopped, `Z` ended but not reaped, `X` dead, … */
  state: string;
  /** A process whose first thread has ended is `Z` while others still run, and hold its files. */
  threads: number;
}

export type StatFields = Omit<ProcessInfo, 'uid'>;

/**
 * /proc/PID/stat: `pid (comm) state ppid …`, the start time in field 22. The comm is whatever the process
 * calls itself, with spaces, parentheses and line ends in it: what follows the *last* parenthesis is the rest.
 * Source: proc_pid_stat(5).
 * @returns undefined for anything else
 */
export function parseStat(text: string): StatFields | undefined {
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  if (open < 0 || close < open) return undefined;
  const rest = text
    .slice(close + 1)
    .trim()
    .split(' ');
  const pid = Number(text.slice(0, open));
  const [state, parent, threads, startTime] = [rest[0], Number(rest[1]), Number(rest[17]), Number(rest[19])];
  if (!state || ![pid, parent, threads, startTime].every(Number.isInteger)) return undefined;
  return { pid, state, parent, threads, startTime };
}

/** The effective uid in /proc/PID/status, whose `Uid:` line is real, effective, saved, file system. */
export function parseStatusUid(text: string): number | undefined {
  const field = /^Uid:\t\d+\t(\d+)\t/m.exec(text)?.[1];
  return field === undefined ? undefined : Number(field);
}

/** @returns undefined when there is no such process */
export function readProcess(pid: number): ProcessInfo | undefined {
  try {
    const fields = parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
    const uid = parseStatusUid(readFileSync(`/proc/${pid}/status`, 'latin1'));
    return fields && uid !== undefined ? { ...fields, uid } : undefined;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/**
 * Whether the process that was started then still runs. A process that ended and waits to be reaped does not:
 * its parent may be a supervisor that takes its time.
 */
export function isAlive(process: { pid: number; startTime: number }): boolean {
  const now = readProcess(process.pid);
  return now !== undefined && now.startTime === process.startTime && !hasEnded(now);
}

function hasEnded({ state, threads }: ProcessInfo): boolean {
  return state === 'X' || (state === 'Z' && threads <= 1);
}

/** Every live process; zombies are left out. */
export function processes(): ProcessInfo[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readProcess(Number(name)))
    .filter((info) => info !== undefined)
    .filter((info) => !hasEnded(info));
}

/** Those of a user. Walks all of /proc. */
export function processesOfUid(uid: number): ProcessInfo[] {
  return processes().filter((info) => info.uid === uid);
}

/** The working directory, as a path of our own mount namespace. Undefined when the process is gone. */
export function workingDirectory(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ESRCH';
}
