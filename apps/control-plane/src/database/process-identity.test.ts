import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { startTime } from './process-identity.ts';

test('a process has one start time for its whole life', async () => {
  const first = await startTime(process.pid);
  expect(first).toMatch(/^\d+$/);
  expect(await startTime(process.pid)).toBe(first);
});

test('one that ended and was not reaped is gone', async () => {
  // The shell starts a child and becomes a program that never waits for it. Only then may the child end.
  const parent = spawn('sh', ['-c', 'read end <&3 & echo $!; exec sleep 60 3<&-'], {
    stdio: ['ignore', 'pipe', 'ignore', 'pipe'],
  });
  const [output] = await once(parent.stdout as Readable, 'data');
  const pid = Number(output);
  const program = () => readFile(`/proc/${parent.pid}/comm`, 'utf8');
  await expect.poll(program, { timeout: 5000 }).toBe('sleep\n');
  (parent.stdio[3] as Writable).end('\n');
  await expect
    .poll(() => readFile(`/proc/${pid}/stat`, 'utf8'), { timeout: 5000 })
    .toMatch(/^\d+ \(\w+\) Z /);
  expect(await startTime(pid)).toBeUndefined();
  parent.kill('SIGKILL');
  await once(parent, 'exit');
});
