/** Finds a process of a VM again that an earlier host agent has started. */
import { isAlive, type ProcessRef, processesOfUid, readProcess, worksIn } from '../../linux/index.ts';

/**
 * By (pid, start time) where that is known, else by the VM's user, which no other program on the machine has, and the
 * working directory. A process that was started and has not yet become that user is not found: that lasts some ten
 * milliseconds, less than it takes us to start again.
 */
export function findProcess(uid: number, known: ProcessRef | undefined, dir: string): ProcessRef | undefined {
  if (known && isAlive(known) && readProcess(known.pid)?.uid === uid) return known;
  const found = processesOfUid(uid).find(({ pid }) => worksIn(pid, dir));
  return found && { pid: found.pid, startTime: found.startTime };
}
