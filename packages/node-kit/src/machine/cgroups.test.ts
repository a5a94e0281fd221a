import { mkdir, mkdtempDisposable, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseCgroupMounts } from './cgroup-mounts.ts';
import { findCgroups } from './cgroups.ts';

test('the mounts of control groups are told apart by version and controller', () => {
  const mountinfo = [
    '24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755',
    '25 24 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct',
    '26 24 0:24 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset',
    '27 24 0:25 / /sys/fs/with\\040space rw - cgroup cgroup rw,memory',
    '28 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
    '',
  ].join('\n');
  expect(parseCgroupMounts(mountinfo)).toEqual({
    v2: '/sys/fs/cgroup/unified',
    v1: { cpu: '/sys/fs/cgroup/cpu,cpuacct', memory: '/sys/fs/with space' },
  });
});

describe('the hierarchies', () => {
  const v1 = [
    '25 24 0:23 / /v1/cpu rw - cgroup cgroup rw,cpu,cpuacct',
    '26 24 0:24 / /v1/memory rw - cgroup cgroup rw,memory',
    '27 24 0:25 / /v1/pids rw - cgroup cgroup rw,pids',
  ];
  const ofV1 = {
    ...{ description: 'cgroup v1', v2: undefined, missing: [] },
    v1: { cpu: '/v1/cpu', memory: '/v1/memory', pids: '/v1/pids' },
  };

  /** A directory that looks like the root of version 2. */
  async function unified(available: string) {
    const dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
    await writeFile(join(dir.path, 'cgroup.controllers'), `${available}\n`);
    const mountinfo = [`28 24 0:26 / ${dir.path} rw - cgroup2 cgroup2 rw`, ...v1].join('\n');
    const control = join(dir.path, 'cgroup.subtree_control');
    return { mountinfo, root: dir.path, control, [Symbol.asyncDispose]: () => dir.remove() };
  }

  test('are that of version 2 when it has all controllers, which are handed on', async () => {
    await using it = await unified('cpuset cpu io memory pids');
    expect(await findCgroups(it.mountinfo)).toEqual({
      ...{ description: 'cgroup v2', v2: it.root, v1: {}, missing: [] },
    });
    expect(await readFile(it.control, 'utf8')).toBe('+memory +cpu +pids');
  });

  test('are those of version 1 when version 2 lacks a controller', async () => {
    await using it = await unified('cpuset cpu io memory');
    expect(await findCgroups(it.mountinfo)).toEqual(ofV1);
  });

  test('are those of version 1 when version 2 does not hand its controllers on', async () => {
    await using it = await unified('cpu memory pids');
    await mkdir(it.control);
    expect(await findCgroups(it.mountinfo)).toEqual(ofV1);
  });

  test('may lack a controller, or all', async () => {
    expect(await findCgroups(v1.slice(0, 2).join('\n'))).toMatchObject({
      ...{ description: 'cgroup v1', missing: ['pids'] },
    });
    expect(await findCgroups('24 1 0:22 / /proc rw - proc proc rw')).toEqual({
      ...{ description: 'no cgroups', v2: undefined, v1: {}, missing: ['memory', 'cpu', 'pids'] },
    });
  });
});
