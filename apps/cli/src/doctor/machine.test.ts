import { expect, test } from 'vitest';
import { cgroups } from './machine.ts';

const v1 = ['cpu', 'memory', 'pids'].map((name) => `25 24 0:23 / /v1/${name} rw - cgroup cgroup rw,${name}`);

test('control groups are well wherever they are mounted, when there is each controller that the host agent uses', async () => {
  expect(await cgroups(v1.join('\n'))).toEqual({ name: 'cgroups', status: 'ok', detail: 'cgroup v1' });
});

test.runIf(process.getuid?.() === 0)('a controller that is missing is named', async () => {
  expect(await cgroups(v1.slice(0, 2).join('\n'))).toMatchObject({
    ...{ status: 'warning', detail: 'cgroup v1, without pids' },
  });
  expect(await cgroups('')).toMatchObject({ detail: 'no cgroups, without memory, cpu, pids' });
});
