/** Makes a snapshot whose disk needs no image below it, of one that does. */
import { link } from 'node:fs/promises';
import {
  convertLayers,
  type DiskBackend,
  type DiskState,
  isOfOtherKind,
  type LayeredState,
  type ToolPlace,
} from '../../disk/index.ts';
import { failpoint } from '../../failpoints/index.ts';
import { imageIdOf, noteContent } from '../../images/index.ts';
import { commitSnapshot, type Snapshot, snapshotFiles } from '../../snapshot/index.ts';
import { diskOf } from './disk.ts';
import type { FlatCopyTarget } from './flat-copy.ts';
import { type LayersUserDeps, withLayersUser } from './layers-user.ts';
import { factsOf, layerFiles, shareFiles } from './parts.ts';

export interface FlattenDeps extends LayersUserDeps {
  disks: DiskBackend;
}

/** @param from a snapshot whose disk has layers, of either kind @throws PerchError capacity_exhausted */
export async function flattenSnapshot(
  from: Snapshot,
  { temporary, final, durable }: FlatCopyTarget,
  deps: FlattenDeps,
): Promise<void> {
  const merged = new Set([snapshotFiles.rootfsBase, ...layerFiles(from)]);
  const disk = diskOf(from);
  const bytes = await from.directory.bytesOf(merged);
  const { disk_mb: diskMb } = from.manifest.machine;
  await deps.room.require(bytes, 'The flattened disk');
  await temporary.ensure();
  const sums = await shareFiles(from, temporary, merged);
  failpoint('flatten.linked');
  const flat = temporary.file(snapshotFiles.rootfsExt4);
  await withLayersUser('flatten', diskMb, deps, async (tool) => {
    const made = await deps.disks.flatten(await asOwnKind(disk, tool, deps.disks), tool);
    failpoint('flatten.merged');
    await link(made, flat);
  });
  const id = await imageIdOf(flat);
  await noteContent(flat, id);
  const facts = { ...factsOf(from), disk: { format: 'image' } as const, rootfs_content_id: id };
  await commitSnapshot({ ...{ temporary, final, durable, sums }, facts });
}

type Disks = Pick<DiskBackend, 'capabilities'>;

/** A kind of disk puts only layers of its own together. */
async function asOwnKind(disk: DiskState, tool: ToolPlace, disks: Disks): Promise<DiskState> {
  if (!isOther(disk, disks)) return disk;
  const { format } = disks.capabilities;
  return { format, base: disk.base, layers: [await convertLayers(disk, format, tool)] };
}

const isOther = (disk: DiskState, disks: Disks): disk is LayeredState => isOfOtherKind(disk, disks);
