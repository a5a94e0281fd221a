import { setTimeout as sleep } from 'node:timers/promises';
import { PerchError } from '@perch/protocol';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import type { SandboxRow } from '../database/index.ts';
import { Copier } from './copies.ts';
import { Life } from './life.ts';
import { Operations } from './operations.ts';

test('a fork of which one row cannot be written asks the host for none, and ends nothing else', async () => {
  const unhandled: unknown[] = [];
  const note = (error: unknown) => void unhandled.push(error);
  process.on('unhandledRejection', note);
  onTestFinished(() => void process.off('unhandledRejection', note));
  const source = { id: 'sb0', generation: 1, status: 'paused', metadata: {} } as SandboxRow;
  let written = 0;
  const parts = {
    hosts: { of: () => ({ fork: () => Promise.reject(new Error('asked')) }) },
    lives: { get: () => new Life(source), row: async () => source },
    operations: new Operations(async () => {}),
    metrics: { transition: () => {} },
    log: pino({ level: 'silent' }),
    creator: {
      start: async (_: unknown, begin: () => Promise<unknown>) => {
        written += 1;
        if (written === 1) throw new PerchError('database_unavailable', 'The database is away.', {});
        await sleep(20);
        return begin();
      },
    },
  };
  const copier = new Copier(parts as unknown as ConstructorParameters<typeof Copier>[0]);
  await expect(copier.fork('sb0', { count: 2 }, { requestId: 'r' })).rejects.toMatchObject({
    code: 'database_unavailable',
  });
  expect(unhandled).toEqual([]);
});
