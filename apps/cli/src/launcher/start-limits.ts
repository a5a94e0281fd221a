/** How long a daemon that starts is waited for. */
import { setTimeout as sleep } from 'node:timers/promises';
import { startMs } from '../systemd/index.ts';

/** What is asked of a daemon meanwhile. */
export interface Starting {
  /** Waiting is of no use. */
  readonly hopeless: boolean;
  /** Since it said anything, or was started. */
  readonly silentMs: number;
}

/** On a host under load the first start of a guest, as a trial, may take a minute and a half of it, and says nothing meanwhile. */
const mostSilentMs = 300_000;
const pollMs = 50;

/**
 * @param over ends the wait
 * @returns whether it answers; false when it will not, or takes too long
 * @throws the reason of `over`
 */
export async function answersInTime(
  daemon: Starting,
  answers: () => Promise<boolean>,
  over?: AbortSignal,
): Promise<boolean> {
  const started = performance.now();
  while (!(await answers())) {
    over?.throwIfAborted();
    const late = daemon.silentMs >= mostSilentMs || performance.now() - started >= startMs;
    if (daemon.hopeless || late) return false;
    await sleep(pollMs);
  }
  over?.throwIfAborted();
  return true;
}
