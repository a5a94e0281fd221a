/**
 * Processes, as /proc shows them. Reads only, and synchronously: such a read is a few microseconds of kernel
 * work that waits for nothing, fifty times less than a round trip through the thread pool.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { hasCode } from './system-error.ts';

export interface ProcessStat {
  pid: number;
  /** `R` running, `S` sleeping, `D` waiting for a device, `T` stopped, `Z` ended but not reaped, `X` dead, … */
  state: string;
  parent: number;
  session: number;
  /** CPU time of all its threads, clock ticks. */
  cpuTicks: number;
  /** A process whose first thread has ended is `Z` while others still run, and hold its files. */
  threads: number;
  /** Clock ticks since boot: with the pid, the identity of a process until the next boot. */
  startTime: number;
}

/**
 * /proc/PID/stat: `pid (comm) state ppid …`. The comm is whatever the process calls itself, with spaces,
 * parentheses and line ends in it: what follows the *last* parenthesis is the rest, from field 3 on.
 * Source: proc_pid_stat(5).
 * @returns undefined for anything else
 */
export function parseStat(text: string): ProcessStat | undefined {
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  if (open < 0 || close < open) return undefined;
  const fields = text
    .slice(close + 1)
    .trim()
    .split(' ');
  const field = (number: number) => Number(fields[number - 3]);
  const [state] = fields;
  const stat = {
    pid: Number(text.slice(0, open)),
    parent: field(4),
    session: field(6),
    cpuTicks: field(14) + field(15),
    threads: field(20),
    startTime: field(22),
  };
  return state && Object.values(stat).every(Number.isInteger) ? { ...stat, state } : undefined;
}

/** @returns undefined when there is no such process */
export function readStat(pid: number): ProcessStat | undefined {
  return ofProcess(() => parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1')));
}

/** Of all processes there are, also of those that have ended and wait to be reaped. */
export function pids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** The answer of a read below /proc/PID; undefined when the process is gone. */
export function ofProcess<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
