import { spawn } from 'node:child_process';
import { mkdtempDisposable, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { UserStillRuns } from '../../disk/index.ts';
import { FakeMachine } from '../testing.ts';
import { withLayersUser } from './layers-user.ts';

const isRoot = process.getuid?.() === 0;
const room = { require: async () => {} };

test.runIf(isRoot)(
  'a tool has a directory and a slot for as long as it works, whatever comes of it',
  async () => {
    await using vms = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
    const machine = new FakeMachine();
    const deps = { network: machine.network(), vmsDir: vms.path, room };
    const work = withLayersUser('merge', 64, deps, async ({ dir, sizeBytes }) => {
      expect(await readdir(vms.path)).toEqual([expect.stringMatching(/^\.merge-/)]);
      expect(machine.slots.size).toBe(1);
      expect(sizeBytes).toBe(64 * 2 ** 20);
      await writeFile(join(dir, 'made'), '');
      throw new Error('it failed');
    });
    await expect(work).rejects.toThrow('it failed');
    expect(await readdir(vms.path)).toEqual([]);
    expect(machine.slots.size).toBe(0);
  },
);

test.runIf(isRoot)('a directory that cannot be removed does not keep the slot', async () => {
  await using vms = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const machine = new FakeMachine();
  const none = join(vms.path, 'none');
  await writeFile(none, 'no directory');
  await expect(
    withLayersUser('merge', 64, { network: machine.network(), vmsDir: none, room }, async () => {}),
  ).rejects.toMatchObject({ code: 'ENOTDIR' });
  expect(machine.slots.size).toBe(0);
});

test.runIf(isRoot)(
  'a tool that cannot be ended keeps its user and its directory until it has ended',
  async () => {
    await using vms = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
    const machine = new FakeMachine();
    const network = machine.network();
    const uid = 70_018;
    const acquire = async () => ({ ...(await network.acquire()), uid });
    const tool = spawn('sleep', ['60'], { uid, gid: uid, stdio: 'ignore' });
    const deps = { network: { ...network, acquire }, vmsDir: vms.path, room };
    const fail = () => Promise.reject(new UserStillRuns(uid, { cause: undefined }));
    await expect(withLayersUser('merge', 64, deps, fail, 5)).rejects.toThrow('does not end');
    expect(machine.slots.size).toBe(1);
    expect(await readdir(vms.path)).toHaveLength(1);
    tool.kill('SIGKILL');
    await expect.poll(() => machine.slots.size).toBe(0);
    expect(await readdir(vms.path)).toEqual([]);
  },
);

test.runIf(isRoot)('a slot that cannot be removed fails nothing, and is tried again', async () => {
  await using vms = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const machine = new FakeMachine();
  const network = machine.network();
  let failures = 0;
  const release = async (number: number) => {
    if (failures++ === 0) throw new Error('ip: killed by SIGKILL');
    await network.release(number);
  };
  await withLayersUser(
    'merge',
    64,
    { network: { ...network, release }, vmsDir: vms.path, room },
    async () => {},
  );
  expect([failures, machine.slots.size, await readdir(vms.path)]).toEqual([1, 1, []]);
  await expect.poll(() => machine.slots.size).toBe(0);
});
