/** The root disk of a snapshot. */
import type { DiskState } from '../../disk/index.ts';
import { ancestorRootfsCow, type Snapshot, snapshotFiles } from '../../snapshot/index.ts';

export function diskOf({ directory, rootfs }: Snapshot): DiskState {
  if (!rootfs) return { format: 'image', image: directory.file(snapshotFiles.rootfsExt4) };
  const layers = rootfs.layers.map((layer) => directory.file(ancestorRootfsCow(layer)));
  return {
    format: rootfs.format,
    base: directory.file(snapshotFiles.rootfsBase),
    layers: [...layers, directory.file(snapshotFiles.rootfsCow)],
  };
}
