import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { startTime } from './process-identity.ts';

test('a process has one start time for its whole life', async () => {
  const first = await startTime(process.pid);
  expect(first).toMatch(/^\d+$/);
  expect(await startTime(process.pid)).toBe(first);
});

test('one that ended and was not reaped is gone', async () => {
  // The shell starts a child, which ends, and then becomes a program that never waits for it.
  const parent = spawn('sh', ['-c', 'sleep 0 & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [output] = await once(parent.stdout, 'data');
  const pid = Number(output);
  await expect
    .poll(() => readFile(`/proc/${pid}/stat`, 'utf8'), { timeout: 5000 })
    .toMatch(/^\d+ \(\w+\) Z /);
  expect(await startTime(pid)).toBeUndefined();
  parent.kill('SIGKILL');
  await once(parent, 'exit');
});
