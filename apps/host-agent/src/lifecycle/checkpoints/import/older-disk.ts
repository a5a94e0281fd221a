/** The root disk of an older layout, in either of its two forms. */
import { link, stat } from 'node:fs/promises';
import { type DiskFormat, limits } from '@perch/protocol';
import { hasContent, imageIdOf } from '../../../images/index.ts';
import {
  ancestorRootfsCow,
  decodeRootfsMeta,
  type ForeignDirectory,
  maxRootfsMetaBytes,
  type RootfsMeta,
  SnapshotDamaged,
  type SnapshotDirectory,
  snapshotFiles,
  writeRootfsMeta,
} from '../../../snapshot/index.ts';
import { modeOf } from './modes.ts';
import { ImportRefused } from './refused.ts';
import type { ImportHost } from './request.ts';

export interface OlderDisk {
  format: DiskFormat;
  diskMb: number;
  /** Name of the image that it lies on, where that is known. */
  image: string | undefined;
  /** Puts it into the directory of a snapshot. @returns the content of a disk that stands alone */
  place: (to: SnapshotDirectory) => Promise<string | undefined>;
}

const { rootfsExt4, rootfsCow, rootfsMeta, rootfsBase } = snapshotFiles;

/** @throws SnapshotDamaged, ImportRefused when it is not all there, or not for this host */
export async function findDisk(from: ForeignDirectory, host: ImportHost): Promise<OlderDisk> {
  if (!from.has(rootfsExt4)) return findLayers(from, host);
  if (from.has(rootfsCow))
    throw new ImportRefused(`it has both ${rootfsExt4} and ${rootfsCow}; only one is its disk`);
  return {
    format: 'image',
    diskMb: mebibytesOf(rootfsExt4, from.length(rootfsExt4)),
    image: undefined,
    place: async (to) => {
      await from.copy(rootfsExt4, to.file(rootfsExt4), modeOf(rootfsExt4));
      return imageIdOf(to.file(rootfsExt4));
    },
  };
}

async function findLayers(from: ForeignDirectory, host: ImportHost): Promise<OlderDisk> {
  from.length(rootfsCow);
  const meta = decodeRootfsMeta(await from.read(rootfsMeta, maxRootfsMetaBytes));
  const layers = [...meta.layers.map(ancestorRootfsCow), rootfsCow];
  const lost = layers.find((layer) => !from.has(layer));
  if (lost !== undefined) throw new SnapshotDamaged(lost, `is missing, and ${rootfsMeta} needs it`);
  const placeBase = await findBase(from, meta, host);
  return {
    format: meta.format,
    diskMb: mebibytesOf(rootfsMeta, meta.disk_bytes),
    image: meta.base_template,
    place: async (to) => {
      await placeBase(to.file(rootfsBase));
      for (const layer of layers) await from.copy(layer, to.file(layer), modeOf(layer));
      await writeRootfsMeta(to, meta);
      return undefined;
    },
  };
}

/** The image of this content that this host has, or that lies in the directory. */
async function findBase(
  from: ForeignDirectory,
  meta: RootfsMeta,
  { images }: ImportHost,
): Promise<(target: string) => Promise<void>> {
  const { base_content_id: id, base_template: name, disk_bytes: diskBytes } = meta;
  const here = images.rootfsOf(id);
  if (here === undefined && !from.has(rootfsBase)) {
    throw new ImportRefused(
      `${rootfsBase} is missing, and no image of this host has the content ${id} (of the image ${JSON.stringify(name)}); put that image there as ${rootfsBase}`,
    );
  }
  const length = here === undefined ? from.length(rootfsBase) : (await stat(here)).size;
  if (length > diskBytes) {
    throw new SnapshotDamaged(rootfsBase, `has ${length} bytes, more than the ${diskBytes} of the disk`);
  }
  if (here !== undefined) return (target) => link(here, target);
  return async (target) => {
    await from.copy(rootfsBase, target, modeOf(rootfsBase));
    if (await hasContent(target, id)) return;
    throw new SnapshotDamaged(rootfsBase, `does not have the content that ${rootfsMeta} names, ${id}`);
  };
}

function mebibytesOf(file: string, bytes: number): number {
  const { min, max } = limits.diskMb;
  const mebibytes = bytes / 2 ** 20;
  if (Number.isInteger(mebibytes) && mebibytes >= min && mebibytes <= max) return mebibytes;
  throw new SnapshotDamaged(file, `is of a disk of ${bytes} bytes; a sandbox has ${min} to ${max} whole MiB`);
}
