import { setTimeout as sleep } from 'node:timers/promises';
import { isPerchError } from '@perch/protocol';

const withinMs = 15_000;

/**
 * Runs a write that has to happen, again while the database is away: long enough for it to be started again.
 * `attempt` counts from 0; a write whose answer was lost may have been done.
 */
export async function persist<T>(write: (attempt: number) => Promise<T>): Promise<T> {
  const deadline = Date.now() + withinMs;
  for (let attempt = 0; ; attempt++) {
    try {
      return await write(attempt);
    } catch (error) {
      if (!isPerchError(error, 'database_unavailable') || Date.now() > deadline) throw error;
      await sleep(Math.min(50 * 2 ** attempt, 1_000));
    }
  }
}
