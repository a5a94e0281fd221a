import { afterEach, expect, test, vi } from 'vitest';
import { answersInTime } from './start-limits.ts';

afterEach(() => {
  vi.useRealTimers();
});

/** Says something every `everyMs`, and answers after `startsMs`, of a clock that runs by itself. */
function starting(everyMs: number, startsMs = Number.POSITIVE_INFINITY) {
  vi.useFakeTimers({ toFake: ['performance'] });
  const start = performance.now();
  const since = () => performance.now() - start;
  const daemon = {
    hopeless: false,
    get silentMs() {
      return since() % everyMs;
    },
  };
  const answers = async () => {
    vi.advanceTimersByTime(20_000);
    return since() >= startsMs;
  };
  return { daemon, answers, since };
}

test('a daemon that says something now and then is waited for', async () => {
  const { daemon, answers } = starting(200_000, 600_000);
  expect(await answersInTime(daemon, answers)).toBe(true);
});

test('one that says nothing for five minutes is given up', async () => {
  const { daemon, answers, since } = starting(1_000_000, 600_000);
  expect(await answersInTime(daemon, answers)).toBe(false);
  expect(since()).toBe(300_000);
});

test('one that only talks is given up after a quarter of an hour', async () => {
  const { daemon, answers, since } = starting(20_000);
  expect(await answersInTime(daemon, answers)).toBe(false);
  expect(since()).toBe(900_000);
});

test('one that is hopeless, or that nobody waits for any more, is not waited for', async () => {
  const { daemon, answers } = starting(20_000);
  expect(await answersInTime({ hopeless: true, silentMs: 0 }, answers)).toBe(false);
  await expect(answersInTime(daemon, answers, AbortSignal.abort(new Error('over')))).rejects.toThrow('over');
});
