import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, type ProcessRef } from './process.ts';
import { signalProcess } from './process-signal.ts';

const sigkill = 9;
const pollMs = 5;

/** It was killed, and the kernel has not let go of it. */
export class ProcessRemains extends Error {
  override readonly name = 'ProcessRemains';
}

/**
 * Kills a process and waits until the kernel has let go of it.
 * @throws ProcessRemains when it is still there after `timeoutMs`, as one that waits for a broken device is
 */
export async function endProcess(process: ProcessRef, timeoutMs = 10_000): Promise<void> {
  signalProcess(process, sigkill);
  for (const until = performance.now() + timeoutMs; isAlive(process); ) {
    if (performance.now() > until)
      throw new ProcessRemains(`Process ${process.pid} did not end within ${timeoutMs} ms of SIGKILL.`);
    await sleep(pollMs);
  }
}
