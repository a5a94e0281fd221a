/** Knows a process of a VM again that was just started. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { type ProcessRef, readProcess } from '../../linux/index.ts';

export interface Spawned {
  child: ChildProcess;
  process: ProcessRef;
}

/**
 * @param child in the turn of the event loop in which it was started
 * @throws when the first tool of its chain cannot be started. A later failure shows as an exit.
 */
export async function identified(child: ChildProcess): Promise<Spawned> {
  if (child.pid === undefined) {
    const [cause] = await once(child, 'error');
    throw new Error('The tools that start a VM monitor cannot be started', { cause });
  }
  child.on('error', () => {});
  // Before anything else runs: an exit is reaped only by a later turn of the event loop, so /proc has it.
  const info = readProcess(child.pid);
  if (!info) throw new Error(`Process ${child.pid} ended before it could be identified`);
  return { child, process: { pid: info.pid, startTime: info.startTime } };
}
