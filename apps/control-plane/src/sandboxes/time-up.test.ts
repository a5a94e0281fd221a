import { pino } from 'pino';
import { expect, test, vi } from 'vitest';
import type { SandboxRow } from '../database/index.ts';
import { ActivityTracker } from './activity.ts';
import { Life } from './life.ts';
import type { SandboxRepository } from './repository.ts';
import { type LastCommand, TimeUp } from './time-up.ts';

const log = pino({ level: 'silent' });

function lifeOf(row: Partial<SandboxRow>): Life {
  const defaults = {
    id: 'sb0',
    status: 'running',
    on_timeout: 'pause',
    timeout_mode: 'fixed',
    timeout_sec: 60,
  };
  return new Life({ ...defaults, expires_at: new Date(), ...row } as SandboxRow);
}

function timeUp(
  life: Life,
  pause: () => Promise<unknown>,
  ended?: Promise<void>,
  lastCommand: LastCommand = async () => undefined,
) {
  const calls: string[] = [];
  const settled = Promise.withResolvers<void>();
  const parts = {
    lives: {
      get: () => life,
      arm: () => {
        calls.push('arm');
        settled.resolve();
      },
    },
    operations: { ended: () => ended },
    destroy: async (_id: string, detail: string) => {
      calls.push(`destroy: ${detail}`);
      settled.resolve();
    },
    activity: new ActivityTracker({} as SandboxRepository, log),
    lastCommand,
    pause: () => {
      calls.push('pause');
      return pause();
    },
    log,
  };
  return { calls, settled: settled.promise, expired: () => new TimeUp(parts).expired('sb0') };
}

test('a pause that keeps failing is tried a few times, and the sandbox is never destroyed', () => {
  const { calls, expired } = timeUp(lifeOf({}), () => Promise.reject(new Error('no space')));
  for (let i = 0; i < 20; i++) expired();
  expect(calls).toEqual(Array(5).fill('pause'));
});

test('use gives it its tries again', () => {
  const life = lifeOf({});
  const { calls, expired } = timeUp(life, () => Promise.reject(new Error('no space')));
  for (let i = 0; i < 10; i++) expired();
  life.pauseTries = 0;
  expired();
  expect(calls).toHaveLength(6);
});

test('what is to be destroyed is, and so is a failed one, whatever was chosen for it', () => {
  const plain = timeUp(lifeOf({ on_timeout: 'destroy' }), () => Promise.resolve());
  plain.expired();
  expect(plain.calls).toEqual(['destroy: its time was over']);
  const failed = timeUp(lifeOf({ status: 'failed' }), () => Promise.resolve());
  failed.expired();
  expect(failed.calls).toEqual(['destroy: kept long enough']);
});

test('while something is done to it the end of its time waits', async () => {
  const done = Promise.withResolvers<void>();
  const { calls, expired } = timeUp(lifeOf({}), () => Promise.resolve(), done.promise);
  expired();
  expect(calls).toEqual([]);
  done.resolve();
  await done.promise;
  expect(calls).toEqual(['arm']);
});

const idle = { timeout_mode: 'idle', on_timeout: 'destroy' } as const;
const noPause = () => Promise.resolve();
const ago = (seconds: number) => new Date(Date.now() - seconds * 1000);

test('a command that runs gives an idle sandbox its full time again', async () => {
  const life = lifeOf({ ...idle, last_active_at: ago(60) });
  const { calls, settled, expired } = timeUp(life, noPause, undefined, async () => new Date());
  expired();
  await settled;
  expect(calls).toEqual(['arm']);
  expect(life.expiresAt?.getTime()).toBeGreaterThan(Date.now() + 50_000);
});

test('from the end of its last command an idle sandbox has its full time', async () => {
  const life = lifeOf({ ...idle, last_active_at: ago(90) });
  const { calls, settled, expired } = timeUp(life, noPause, undefined, async () => ago(20));
  expired();
  await settled;
  expect(calls).toEqual(['arm']);
  const left = (life.expiresAt?.getTime() ?? 0) - Date.now();
  expect(left).toBeGreaterThan(30_000);
  expect(left).toBeLessThanOrEqual(40_000);
});

test('one whose last command ended long ago, or that knows of none, is over', async () => {
  for (const at of [ago(3600), ago(61), undefined]) {
    const life = lifeOf({ ...idle, last_active_at: ago(62) });
    const { calls, settled, expired } = timeUp(life, noPause, undefined, async () => at);
    expired();
    await settled;
    expect(calls).toEqual(['destroy: its time was over']);
  }
});

test('a guest that does not answer is asked again for minutes, since it may go on with its commands', async () => {
  vi.useFakeTimers();
  try {
    const life = lifeOf({ ...idle, last_active_at: ago(62) });
    const { calls, expired } = timeUp(life, noPause, undefined, async () => 'silent');
    for (let asked = 1; asked <= 10; asked++) {
      expired();
      await vi.advanceTimersByTimeAsync(29_000);
      expect(calls).toHaveLength(asked - 1);
      await vi.advanceTimersByTimeAsync(1000);
      expect(calls).toEqual(Array(asked).fill('arm'));
    }
    expired();
    await vi.advanceTimersByTimeAsync(0);
    expect(calls.at(-1)).toBe('destroy: its time was over');
  } finally {
    vi.useRealTimers();
  }
});

test('nothing happens to it when this process goes down while its guest is asked', async () => {
  const down = Promise.reject(new Error('shutting down'));
  const { calls, expired } = timeUp(lifeOf(idle), noPause, undefined, () => down);
  expired();
  await down.catch(() => {});
  await Promise.resolve();
  expect(calls).toEqual([]);
});

test('in mode fixed no guest is asked', () => {
  const { calls, expired } = timeUp(lifeOf({ on_timeout: 'destroy' }), noPause, undefined, () => {
    throw new Error('asked');
  });
  expired();
  expect(calls).toEqual(['destroy: its time was over']);
});
