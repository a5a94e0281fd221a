import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { SandboxRow } from '../database/index.ts';
import { Life } from './life.ts';
import { TimeUp } from './time-up.ts';

const log = pino({ level: 'silent' });

function lifeOf(row: Partial<SandboxRow>): Life {
  return new Life({ id: 'sb0', status: 'running', on_timeout: 'pause', ...row } as SandboxRow);
}

function timeUp(life: Life, pause: () => Promise<unknown>, ended?: Promise<void>) {
  const calls: string[] = [];
  const parts = {
    lives: { get: () => life, arm: () => void calls.push('arm') },
    operations: { ended: () => ended },
    destroy: async (_id: string, detail: string) => void calls.push(`destroy: ${detail}`),
    pause: () => {
      calls.push('pause');
      return pause();
    },
    log,
  };
  return { calls, expired: () => new TimeUp(parts).expired('sb0') };
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
