/** The use of processes, as the kernel counts it. */
import { readdirSync, readFileSync } from 'node:fs';

/**
 * Bytes of memory in use. `rss` counts shared pages in full, `pss` in proportion to their users, `ownPss` is that
 * without pages of files.
 */
export function memoryOf(pid: number): { rss: number; pss: number; ownPss: number } {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const pss = field(rollup, 'Pss');
  return { rss: field(rollup, 'Rss'), pss, ownPss: pss - field(rollup, 'Pss_File') };
}

/** Milliseconds of CPU time, of all threads that live. */
export function cpuTimeOf(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`).map((thread) => {
    const [ns] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ');
    return Number(ns) / 1e6;
  });
  return threads.reduce((sum, ms) => sum + ms, 0);
}

/** The descendants of a process. */
export function descendantsOf(pid: number): number[] {
  const parents = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({ pid: Number(name), parent: parentOf(name) }));
  const below = (of: number): number[] =>
    parents.flatMap((one) => (one.parent === of ? [one.pid, ...below(one.pid)] : []));
  return below(pid);
}

/** The second field after the name, which stands in parentheses and may hold anything. */
function parentOf(pid: string): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return undefined;
  }
}

function field(text: string, name: string): number {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
  if (kib === undefined) throw new Error(`The kernel does not tell ${name}.`);
  return Number(kib) * 1024;
}
