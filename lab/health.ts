/** Whether a lab's agent answers. */
import { setTimeout as sleep } from 'node:timers/promises';
import { LabDied } from './died.ts';

const pauseMs = { boot: 50, life: 2000 };
const answerMs = { boot: 1000, life: 20_000 };
/** An agent may be silent for so long: a machine under load takes its time. */
const silenceMs = 120_000;

export async function isHealthy(port: number, timeoutMs = answerMs.life): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${port}/health`, { signal: AbortSignal.timeout(timeoutMs) })).ok;
  } catch {
    return false;
  }
}

/** @throws LabDied when it does not answer in time */
export async function untilHealthy(port: number, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await isHealthy(port, answerMs.boot))) {
    if (performance.now() > deadline)
      throw new LabDied(`The lab did not answer within ${timeoutMs / 1000} s.`);
    await sleep(pauseMs.boot);
  }
}

/** Rejects with LabDied once the agent has been silent for too long; never resolves. */
export async function watchdog(port: number, signal: AbortSignal): Promise<never> {
  let heard = performance.now();
  for (;;) {
    await sleep(pauseMs.life, undefined, { signal });
    if (await isHealthy(port)) heard = performance.now();
    else if (performance.now() - heard > silenceMs)
      throw new LabDied(`The lab has not answered for ${silenceMs / 1000} s.`);
  }
}
