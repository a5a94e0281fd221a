import { closeSync, mkdirSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { tryLockFile } from '../linux/index.ts';

const directory = '/run/perch';
const waitMs = 20_000;
const pollMs = 20;

/**
 * One instance of this machine at a time looks whether its range is free and takes it. The lock ends with
 * the descriptor, so with the process at the latest.
 */
export async function withStartLock<T>(work: () => Promise<T>): Promise<T> {
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const fd = openSync(`${directory}/network.lock`, 'a', 0o600);
  try {
    const deadline = performance.now() + waitMs;
    while (!tryLockFile(fd)) {
      if (performance.now() > deadline) {
        throw new Error(`${directory}/network.lock is held by another Perch that does not finish its start.`);
      }
      await sleep(pollMs);
    }
    return await work();
  } finally {
    closeSync(fd);
  }
}
