import { execFileSync } from 'node:child_process';
import { rename, rm } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { PerchInstance } from './setup/perch-instance.ts';
import { sh } from './setup/sandbox.ts';

const small = { memory_mb: 128, disk_mb: 1024, timeout_sec: 1800 };

test('a data directory that was copied while Perch was stopped is restored with its paused sandboxes, snapshots and keys', async () => {
  await using instance = await PerchInstance.start({ network: 76 });
  const { perch, dataDir } = instance;
  const { id } = await perch.sandboxes.create(small);
  await sh(perch, id, 'echo of the disk > ~/word; echo of the memory > /dev/shm/word; sync');
  await perch.sandboxes.pause(id);
  await perch.snapshots.create({ sandbox_id: id, name: 'kept' });
  await instance.stop();

  const backup = `${dataDir}.backup`;
  execFileSync('cp', ['-a', '--sparse=always', dataDir, backup]);
  await rm(dataDir, { recursive: true });
  await rename(backup, dataDir);

  await instance.up();
  expect(await instance.run('fsck')).toBe('All is as it was written.\n');
  await perch.sandboxes.resume(id);
  const another = await perch.sandboxes.create({ ...small, template: 'kept' });
  for (const each of [id, another.id])
    expect(await sh(perch, each, 'cat ~/word /dev/shm/word')).toBe('of the disk\nof the memory\n');
});
