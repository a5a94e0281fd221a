import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { openCgroups } from './cgroup.ts';

test('a machine without control groups sets no limits', async () => {
  const none = await openCgroups('24 1 0:22 / /proc rw - proc proc rw');
  expect(none.missing).toEqual(['memory', 'cpu', 'pids']);
  await none.create('perch-x/y', { memoryBytes: 1, cpus: 1, tasks: 1 });
  await none.add('perch-x/y', 1);
  await none.remove('perch-x/y');
  expect([await none.oomKills('perch-x/y'), await none.list('perch-x')]).toEqual([0, []]);
});

const cgroups = process.getuid?.() === 0 ? await openCgroups() : undefined;

describe.runIf(cgroups !== undefined && cgroups.missing.length === 0)('a control group', () => {
  const limits = { memoryBytes: 64 * 2 ** 20, cpus: 1, tasks: 8 };

  test('ends what needs more memory than it has, counts that, and goes away as often as asked', async () => {
    if (!cgroups) return;
    const parent = `perch-${randomBytes(4).toString('hex')}`;
    const path = `${parent}/vm`;
    await cgroups.create(path, limits);
    await cgroups.create(path, limits);
    expect(await cgroups.list(parent)).toEqual(['vm']);
    const greedy = spawn('sh', ['-c', 'read go; exec dd if=/dev/zero of=/dev/null bs=200M count=1'], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    const ended = once(greedy, 'exit');
    try {
      await cgroups.add(path, greedy.pid ?? 0);
      greedy.stdin?.write('go\n');
      expect((await ended)[1]).toBe('SIGKILL');
      expect(await cgroups.oomKills(path)).toBe(1);
    } finally {
      greedy.kill('SIGKILL');
      await cgroups.remove(path);
    }
    await cgroups.remove(path);
    expect(await cgroups.list(parent)).toEqual([]);
  });

  test('with a process in it is not removed, and says so', async () => {
    if (!cgroups) return;
    const path = `perch-${randomBytes(4).toString('hex')}/vm`;
    await cgroups.create(path, limits);
    const sleeper = spawn('sleep', ['60'], { stdio: 'ignore' });
    const ended = once(sleeper, 'exit');
    try {
      await cgroups.add(path, sleeper.pid ?? 0);
      await expect(cgroups.remove(path)).rejects.toThrow(/cannot be removed/);
    } finally {
      sleeper.kill('SIGKILL');
      await ended;
      await cgroups.remove(path);
    }
  });
});
