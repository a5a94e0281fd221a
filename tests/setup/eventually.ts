import { setTimeout as sleep } from 'node:timers/promises';
import { slowness } from './slowness.ts';

/** Asks until `check` gives something, for at most `ms` of a machine that is not slow. */
export async function eventually<T>(
  check: () => Promise<T | undefined | false> | T | undefined | false,
  ms = 30_000,
): Promise<T> {
  const deadline = Date.now() + ms * slowness;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${check}`);
    await sleep(50);
  }
}
