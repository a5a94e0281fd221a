import { mkdtempDisposable, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { withLayersUser } from './layers-user.ts';
import { FakeMachine } from './testing.ts';

const isRoot = process.getuid?.() === 0;

test.runIf(isRoot)(
  'a tool has a directory and a slot for as long as it works, whatever comes of it',
  async () => {
    await using vms = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
    const machine = new FakeMachine();
    const deps = { network: machine.network(), vmsDir: vms.path };
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
    withLayersUser('merge', 64, { network: machine.network(), vmsDir: none }, async () => {}),
  ).rejects.toMatchObject({ code: 'ENOTDIR' });
  expect(machine.slots.size).toBe(0);
});
