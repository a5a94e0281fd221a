/** The root disk of a snapshot. */
import { ifThere } from '@perch/node-kit';
import type { DiskState } from '../../disk/index.ts';
import { hasContent } from '../../images/index.ts';
import { ancestorRootfsCow, type Snapshot, SnapshotDamaged, snapshotFiles } from '../../snapshot/index.ts';

export function diskOf({ directory, rootfs }: Snapshot): DiskState {
  if (!rootfs) return { format: 'image', image: directory.file(snapshotFiles.rootfsExt4) };
  const layers = rootfs.layers.map((layer) => directory.file(ancestorRootfsCow(layer)));
  return {
    format: rootfs.format,
    base: directory.file(snapshotFiles.rootfsBase),
    layers: [...layers, directory.file(snapshotFiles.rootfsCow)],
  };
}

/** @throws SnapshotDamaged when the image below the layers is not the one that they were written over */
export async function assertBase({ directory, rootfs }: Snapshot): Promise<void> {
  if (!rootfs) return;
  const { rootfsBase } = snapshotFiles;
  const id = rootfs.base_content_id;
  if (await ifThere(hasContent(directory.file(rootfsBase), id))) return;
  throw new SnapshotDamaged(rootfsBase, `is not the image ${id.slice(0, 12)} any more`);
}
