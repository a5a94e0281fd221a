/** Makes a snapshot whose disk needs no image below it, of one that does. */
import { link } from 'node:fs/promises';
import type { DiskBackend } from '../../disk/index.ts';
import { failpoint } from '../../failpoints/index.ts';
import { imageIdOf, noteContent } from '../../images/index.ts';
import { commitSnapshot, type Snapshot, snapshotFiles } from '../../snapshot/index.ts';
import type { DiskRoom } from '../journal/index.ts';
import { diskOf } from './disk.ts';
import type { FlatCopyTarget } from './flat-copy.ts';
import { type LayersUserDeps, withLayersUser } from './layers-user.ts';
import { factsOf, layerFiles, shareFiles } from './parts.ts';

export interface FlattenDeps extends LayersUserDeps {
  disks: DiskBackend;
  room: DiskRoom;
}

/** @param from a snapshot whose disk has layers @throws PerchError capacity_exhausted */
export async function flattenSnapshot(
  from: Snapshot,
  { temporary, final, durable }: FlatCopyTarget,
  deps: FlattenDeps,
): Promise<void> {
  const merged = new Set([snapshotFiles.rootfsBase, ...layerFiles(from)]);
  const bytes = await from.directory.bytesOf(merged);
  await deps.room.require(bytes, 'The flattened disk');
  await temporary.ensure();
  const sums = await shareFiles(from, temporary, merged);
  failpoint('flatten.linked');
  const flat = temporary.file(snapshotFiles.rootfsExt4);
  await withLayersUser('flatten', from.manifest.machine.disk_mb, deps, async (tool) => {
    const made = await deps.disks.flatten(diskOf(from), tool);
    failpoint('flatten.merged');
    await link(made, flat);
  });
  const disk = { format: 'image' } as const;
  const id = await imageIdOf(flat);
  await noteContent(flat, id);
  const facts = { ...factsOf(from), disk, rootfs_content_id: id };
  await commitSnapshot({ ...{ temporary, final, durable, sums }, facts });
}
