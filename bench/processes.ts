/** The use of processes, as the kernel counts it. */
import { readdirSync, readFileSync } from 'node:fs';
import { pids, readStat } from '../packages/node-kit/src/index.ts';

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
  const all = pids().flatMap((one) => readStat(one) ?? []);
  const below = (of: number): number[] =>
    all.flatMap((one) => (one.parent === of ? [one.pid, ...below(one.pid)] : []));
  return below(pid);
}

function field(text: string, name: string): number {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
  if (kib === undefined) throw new Error(`The kernel does not tell ${name}.`);
  return Number(kib) * 1024;
}
