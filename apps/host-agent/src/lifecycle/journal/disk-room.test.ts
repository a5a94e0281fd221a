import { statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { asDiskFull, DiskRoom } from './disk-room.ts';

const dir = tmpdir();

test('what stays free is for nobody but what was promised room', async () => {
  const { bavail, bsize } = await statfs(dir);
  const keepMb = Math.ceil((bavail * bsize) / 2 ** 20) + 1000;
  const room = new DiskRoom({ dir, keepMb });
  expect(await room.freeBytes()).toBeLessThan(0);
  await expect(room.require(2 ** 20, 'A copy')).rejects.toMatchObject({
    code: 'capacity_exhausted',
    message: `A copy needs 1 MiB of disk, and the host has 0 MiB left beside the ${keepMb} MiB that stay free (PERCH_KEEP_DISK_MB).`,
    details: { resource: 'disk', requested: 1, available: 0 },
  });
  await room.requirePromised(2 ** 20, 'A state');
  await new DiskRoom({ dir, keepMb: 0 }).require(2 ** 20, 'A copy');
  await expect(room.requirePromised(2 ** 60, 'A state')).rejects.toMatchObject({
    code: 'capacity_exhausted',
  });
});

test('a full disk is told as what it is, once', async () => {
  const full = await writeFile('/dev/full', 'x').catch((error: unknown) => error);
  const deep = new Error('cannot write', { cause: new Error('layer', { cause: full }) });
  expect(asDiskFull(deep)).toMatchObject({ code: 'host_disk_full', status: 507, cause: deep });
  const coded = asDiskFull(deep);
  expect(asDiskFull(coded)).toBe(coded);
});
