/** Finds a process of a VM again that an earlier host agent has started. */
import { realpath } from 'node:fs/promises';
import {
  isAlive,
  type ProcessRef,
  processesOfUid,
  readProcess,
  workingDirectory,
} from '../../linux/index.ts';
import type { VmIdentity } from '../monitor.ts';

/**
 * By (pid, start time) where that is known, else by the VM's user, which no other program on the machine has, and the
 * working directory. A process that was started and has not yet become that user is not found: that lasts some ten
 * milliseconds, less than it takes us to start again.
 */
export async function findProcess(
  { dir, uid }: Pick<VmIdentity, 'dir' | 'uid'>,
  known: ProcessRef | undefined,
): Promise<ProcessRef | undefined> {
  if (known && isAlive(known) && readProcess(known.pid)?.uid === uid) return known;
  const real = await realpath(dir).catch(() => undefined);
  const found = processesOfUid(uid).find(({ pid }) => workingDirectory(pid) === real);
  return found && { pid: found.pid, startTime: found.startTime };
}
