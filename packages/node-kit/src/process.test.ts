import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseStat, pids, readStat } from './process.ts';

const tail =
  'S 1 76 77 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 3 0 4242 1000 200 18446744073709551615 1 1 0 0 0';

describe('/proc/PID/stat', () => {
  for (const comm of ['sh', 'a b', 'a) R 5 (b', ')', '', '(((', 'x\ny']) {
    test(`is read with the name ${JSON.stringify(comm)}`, () => {
      expect(parseStat(`12 (${comm}) ${tail}\n`)).toEqual({
        pid: 12,
        state: 'S',
        parent: 1,
        session: 77,
        cpuTicks: 42,
        threads: 3,
        startTime: 4242,
      });
    });
  }

  property.prop([fc.string()])('is read whatever a process calls itself', (comm) => {
    expect(parseStat(`12 (${comm}) ${tail}`)?.startTime).toBe(4242);
  });

  property.prop([fc.string()])('is refused when it is something else', (text) => {
    expect(parseStat(text)).toBeUndefined();
  });
});

test('a process is there from its start until it is reaped', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore', detached: true });
  const ended = once(child, 'exit');
  const pid = child.pid ?? 0;
  expect(readStat(pid)).toMatchObject({ pid, parent: process.pid, session: pid, threads: 1 });
  expect(pids()).toEqual(expect.arrayContaining([pid, process.pid]));
  child.kill('SIGKILL');
  await ended;
  expect(readStat(pid)).toBeUndefined();
  expect(pids()).not.toContain(pid);
});
