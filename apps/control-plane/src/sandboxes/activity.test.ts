import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { SandboxRow } from '../database/index.ts';
import { ActivityTracker } from './activity.ts';
import { Life } from './life.ts';
import type { Activity, SandboxRepository } from './repository.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'Date'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const lifeOf = (id: string) =>
  new Life({ id, status: 'running', timeout_mode: 'idle', timeout_sec: 60 } as SandboxRow);

/** A tracker, and what it has written: the ids of each statement. */
function tracker(failures = 0) {
  const written: string[][] = [];
  const saveActivity = async (rows: readonly Activity[]) => {
    written.push(rows.map(({ id }) => id));
    if (written.length <= failures) throw new Error('the database is away');
  };
  const activity = new ActivityTracker(
    { saveActivity } as unknown as SandboxRepository,
    pino({ level: 'silent' }),
  );
  activity.start();
  return { activity, written };
}

test('use of all sandboxes is written once a second, in one statement', async () => {
  const { activity, written } = tracker();
  const lives = [lifeOf('a'), lifeOf('b')];
  for (let ms = 0; ms < 3_000; ms += 100) {
    for (const life of lives) activity.touch(life);
    await vi.advanceTimersByTimeAsync(100);
  }
  expect(written).toEqual(Array(3).fill(['a', 'b']));
  await vi.advanceTimersByTimeAsync(10_000);
  expect(written).toHaveLength(3);
});

test('a command that runs is use each second, and its end is the last', async () => {
  const { activity, written } = tracker();
  const life = lifeOf('a');
  const held = activity.hold(life);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(written).toHaveLength(5);
  held[Symbol.dispose]();
  const ended = Date.now();
  await vi.advanceTimersByTimeAsync(5_000);
  expect(written).toHaveLength(6);
  expect([life.lastActiveAt?.getTime(), life.expiresAt?.getTime()]).toEqual([ended, ended + 60_000]);
});

test('use that could not be written is written with the next', async () => {
  const { activity, written } = tracker(1);
  activity.touch(lifeOf('a'));
  await vi.advanceTimersByTimeAsync(1_000);
  activity.touch(lifeOf('b'));
  await vi.advanceTimersByTimeAsync(1_000);
  expect(written.map((ids) => ids.toSorted())).toEqual([['a'], ['a', 'b']]);
});
