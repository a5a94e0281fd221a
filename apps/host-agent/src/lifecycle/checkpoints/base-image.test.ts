/** An image is overwritten in place, which no file system keeps root from. */
import { rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { imageIdOf } from '../../images/index.ts';
import { commitSnapshot, SnapshotDirectory, writeRootfsMeta } from '../../snapshot/index.ts';
import { facts, fillDirectory, temporaryDirectory } from '../../snapshot/testing.ts';
import { DiskRoom } from '../journal/disk-room.ts';
import { aMachine, FakeMachine } from '../testing.ts';
import { SavedStates } from './saved-states.ts';

/** A checkpoint of `sb1`, and those who go on from it. */
async function paused(dir: string, format: 'qcow2' | 'dm-snapshot') {
  const temporary = await fillDirectory(join(dir, 'temporary'));
  const base = temporary.file('rootfs.base');
  await utimes(base, 1_700_000_000, 1_700_000_000);
  await rm(temporary.file('rootfs.meta'));
  await writeRootfsMeta(temporary, {
    ...{ base_template: 'base', base_content_id: await imageIdOf(base), format },
    ...{ disk_bytes: 64 * 2 ** 20, layers: [] },
  });
  await writeFile(temporary.file('identity.json'), '{"access_token":"secret","number":1}');
  const states = new SavedStates({
    ...{ dir: join(dir, 'sandboxes'), disks: new FakeMachine().disk, keep: 1, machine: aMachine },
    ...{ room: new DiskRoom({ dir, keepMb: 0 }), baseImage: () => undefined },
  });
  const final = states.directory('sb1', 1);
  await new SnapshotDirectory(join(final.path, '..')).ensure();
  const { monitor, cpu } = aMachine;
  await commitSnapshot({ temporary, final, facts: { ...facts, monitor, cpu, disk: { format } } });
  return { states, base: final.file('rootfs.base') };
}

test.each(['qcow2', 'dm-snapshot'] as const)(
  'nothing goes on from a disk of %s whose image was overwritten in place',
  async (format) => {
    await using dir = await temporaryDirectory();
    const { states, base } = await paused(dir.path, format);
    const { disk } = await states.open('sb1', 1);
    expect(disk).toMatchObject({ format, base });
    await writeFile(base, Buffer.alloc(65_536, 4), { flag: 'r+' });
    await expect(states.open('sb1', 1)).rejects.toMatchObject({
      ...{ code: 'snapshot_damaged', details: { id: 'sb1' } },
      message: expect.stringMatching(/damaged: rootfs\.base is not the image [0-9a-f]{12} any more\.$/),
    });
    await writeFile(base, Buffer.alloc(65_536, 3), { flag: 'r+' });
    await states.open('sb1', 1);
  },
);
