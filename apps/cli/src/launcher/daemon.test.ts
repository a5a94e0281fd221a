import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Daemon } from './daemon.ts';

/** A daemon that runs `script`, and how it ended each time that it was started again. */
async function daemon(script: string): Promise<{ daemon: Daemon; crashes: string[] } & AsyncDisposable> {
  const dir = await mkdtemp(join(tmpdir(), 'perch-test-'));
  const crashes: string[] = [];
  const daemon = new Daemon({
    name: 'test',
    command: ['sh', '-c', script],
    env: { PATH: process.env.PATH ?? '' },
    logFile: join(dir, 'test.log'),
    goodRunMs: 30_000,
    onCrash: (how) => crashes.push(how),
  });
  return {
    daemon,
    crashes,
    async [Symbol.asyncDispose]() {
      await daemon.stop();
      await rm(dir, { recursive: true });
    },
  };
}

test('one that ends is started again, and each end is told', async () => {
  await using d = await daemon('exit 3');
  d.daemon.start();
  await expect.poll(() => d.crashes.length).toBeGreaterThan(1);
  expect(d.crashes[0]).toBe('exit code 3');
});

test('one that says that it cannot start is not started again, and not told to be', async () => {
  await using d = await daemon(`echo '{"level":60,"err":{"message":"PERCH_X is wrong."}}'; exit 78`);
  d.daemon.start();
  await expect.poll(() => d.daemon.hopeless).toBe(true);
  await d.daemon.stop();
  expect(d.crashes).toEqual([]);
  expect(d.daemon.lastWords).toBe('PERCH_X is wrong.');
});

test('how long it is silent is counted from what it said last', async () => {
  const start = performance.now();
  await using d = await daemon('sleep 0.3; echo word; exec sleep 60');
  d.daemon.start();
  await expect.poll(() => d.daemon.lastWords, { timeout: 10_000 }).toBe('word');
  const { silentMs } = d.daemon;
  expect(silentMs).toBeLessThanOrEqual(performance.now() - start - 290);
});

test('one that ends before it was ever ready is given up at the third time', async () => {
  await using d = await daemon('exit 1');
  d.daemon.start();
  await expect.poll(() => d.daemon.hopeless).toBe(true);
  expect(d.crashes).toEqual(['exit code 1', 'exit code 1', 'exit code 1']);
});

test('one that waits to be started again is stopped at once', async () => {
  await using d = await daemon('exit 3');
  d.daemon.markReady();
  d.daemon.start();
  // The next wait is of two seconds.
  await expect.poll(() => d.crashes.length).toBe(3);
  // Nothing of it waits for the system: whatever the load is, no timer comes before it.
  const end = await Promise.race([d.daemon.stop().then(() => 'stopped'), sleep(1, 'it waits')]);
  expect(end).toBe('stopped');
});

test('one that has worked is tried again, whatever it says', async () => {
  await using d = await daemon('exit 78');
  d.daemon.markReady();
  d.daemon.start();
  await expect.poll(() => d.crashes.length).toBeGreaterThan(1);
});
