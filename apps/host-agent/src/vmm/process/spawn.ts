/** Starts a process of a VM, confined, and knows it again. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { type Confinement, type ProcessRef, readProcess, spawnConfined } from '../../linux/index.ts';

export interface Spawned {
  child: ChildProcess;
  process: ProcessRef;
}

/** @throws when the first tool of the chain cannot be started. A later failure shows as an exit. */
export async function spawnProcess(to: Confinement, program: readonly string[]): Promise<Spawned> {
  const child = spawnConfined(to, program);
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
