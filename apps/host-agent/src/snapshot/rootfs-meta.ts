/** `rootfs.meta`: what the copy-on-write layers of a root disk lie on. */
import { writeDurably } from '@perch/node-kit';
import { LayerFormat } from '@perch/protocol';
import { type Static, Type } from 'typebox';
import { jsonReader } from './json.ts';
import { type SnapshotDirectory, snapshotFiles } from './layout.ts';
import { BuildIdText, ContentId } from './schemas.ts';

/** Largest file that is read, bytes. */
export const maxRootfsMetaBytes = 256 * 1024;

export const RootfsMeta = Type.Object(
  {
    /** Name of the template whose image is the base: for people. */
    base_template: Type.String({ minLength: 1, maxLength: 255 }),
    /** The base is this content, whatever its name is now. */
    base_content_id: ContentId,
    format: LayerFormat,
    /** Size of the disk that the guest sees. */
    disk_bytes: Type.Integer({ minimum: 512, multipleOf: 512, maximum: Number.MAX_SAFE_INTEGER }),
    /** Builds of the layers between the base and `rootfs.cow`, from the lowest up. */
    layers: Type.Array(BuildIdText, { maxItems: 4096, uniqueItems: true }),
  },
  { additionalProperties: false },
);
export type RootfsMeta = Static<typeof RootfsMeta>;

/** @throws SnapshotDamaged */
export const decodeRootfsMeta = jsonReader(RootfsMeta, snapshotFiles.rootfsMeta);

/** @throws SnapshotDamaged for values that could not be read again */
export async function writeRootfsMeta(directory: SnapshotDirectory, meta: RootfsMeta): Promise<void> {
  const bytes = Buffer.from(`${JSON.stringify(meta)}\n`);
  decodeRootfsMeta(bytes);
  await writeDurably(directory.file(snapshotFiles.rootfsMeta), bytes);
}
