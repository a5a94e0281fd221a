/**
 * Daemons of a `perch up` that was killed. They end by themselves, and until then they have the journal, the
 * address and the database: a start in between would be refused for what is gone a moment later.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { pids } from '@perch/node-kit';
import { dataPaths } from '@perch/protocol';
import { CliError } from '../errors.ts';

/** Longer than either daemon takes to end: requests that are under way get 10 s. */
const waitMs = 30_000;
const pollMs = 50;

export interface EarlierDaemon {
  pid: number;
  name: string;
}

/**
 * Waits for their end. No `perch up` may run on the data directory.
 * @returns those that had to be waited for
 * @throws CliError when one does not end
 */
export async function earlierDaemonsEnded(dataDir: string, withinMs = waitMs): Promise<EarlierDaemon[]> {
  const found = daemonsOf(dataDir);
  for (const until = performance.now() + withinMs; ; await sleep(pollMs)) {
    const left = daemonsOf(dataDir);
    if (left.length === 0) return found;
    if (performance.now() < until) continue;
    throw new CliError(
      `${left.map(({ name, pid }) => `${name} (pid ${pid})`).join(' and ')} of an earlier \`perch up\` on ${dataDir} does not end.`,
      `End it, then start again; sandboxes live on: kill -9 ${left.map(({ pid }) => pid).join(' ')}`,
    );
  }
}

/** Told by the Node of the data directory, which runs nothing but the daemons. */
function daemonsOf(dataDir: string): EarlierDaemon[] {
  const prefix = `${dataPaths(dataDir).bin}/`;
  return pids().flatMap((pid) => {
    try {
      // A program that was removed since has ` (deleted)` behind its name.
      const ours = /^[^/]+\/node(?: \(deleted\))?$/.test(exeBelow(pid, prefix));
      return ours ? [{ pid, name: readFileSync(`/proc/${pid}/comm`, 'utf8').trim() }] : [];
    } catch {
      return [];
    }
  });
}

/** The rest after `prefix` in the path of the program that a process runs; '' when it lies elsewhere. */
function exeBelow(pid: number, prefix: string): string {
  const path = readlinkSync(`/proc/${pid}/exe`);
  return path.startsWith(prefix) ? path.slice(prefix.length) : '';
}
