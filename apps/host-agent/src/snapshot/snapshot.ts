/** Opens snapshots: everything that can be known of one without reading its memory and its disk. */
import { lstat } from 'node:fs/promises';
import { hasCode } from '@perch/node-kit';
import type { Static, TSchema } from 'typebox';
import { type Pace, verifyBytes, verifyFile } from './checksum.ts';
import { SnapshotDamaged } from './damaged.ts';
import { readBounded } from './files.ts';
import { decodeHeader, type MemoryHeader, maxHeaderBytes } from './header.ts';
import { jsonReader } from './json.ts';
import { ancestorRootfsCow, memfileName, type SnapshotDirectory, snapshotFiles } from './layout.ts';
import { decodeManifest, hasMemory, type Manifest, maxManifestBytes } from './manifest.ts';
import { decodeRootfsMeta, maxRootfsMetaBytes, type RootfsMeta } from './rootfs-meta.ts';

export interface Snapshot {
  directory: SnapshotDirectory;
  manifest: Manifest;
  /** Null when it has no memory. */
  header: MemoryHeader | null;
  /** Null when the root disk stands alone (`rootfs.ext4`). */
  rootfs: RootfsMeta | null;
}

/** A snapshot that is known to have memory. */
export type WithMemory = Snapshot & { header: MemoryHeader };

export function isWithMemory(snapshot: Snapshot): snapshot is WithMemory {
  return snapshot.header !== null;
}

/**
 * The manifest alone, with the length of every file that it names.
 * @throws SnapshotDamaged
 */
export async function readManifest(directory: SnapshotDirectory): Promise<Manifest> {
  const name = snapshotFiles.manifest;
  const manifest = decodeManifest(await readBounded(directory.file(name), name, maxManifestBytes));
  await Promise.all(
    Object.entries(manifest.files).map(([file, { length }]) => assertLength(directory, file, length)),
  );
  // A file more can change what the directory is: with a rootfs.ext4, a snapshot becomes a template.
  for (const found of await directory.names()) {
    if (found !== name && !Object.hasOwn(manifest.files, found)) {
      throw new SnapshotDamaged(found, 'is not in the manifest');
    }
  }
  return manifest;
}

/**
 * Opens a snapshot as far as a resume needs it. Small files are held against their checksums; of the large ones the lengths,
 * and that everything which the small ones refer to is there.
 * @throws SnapshotDamaged
 */
export async function openSnapshot(directory: SnapshotDirectory): Promise<Snapshot> {
  const manifest = await readManifest(directory);
  const header = hasMemory(manifest) ? await readHeader(directory, manifest) : null;
  const rootfs = await readRootfs(directory, manifest);
  const format = rootfs?.format ?? 'image';
  if (manifest.disk && manifest.disk.format !== format) {
    throw new SnapshotDamaged(
      snapshotFiles.rootfsMeta,
      `is of a disk of the format ${format}, not ${manifest.disk.format}`,
    );
  }
  return { directory, manifest, header, rootfs };
}

/**
 * Reads all bytes of a snapshot and holds them against their checksums.
 * @param verified files that were found whole, which are not read again by another name: is added to
 * @throws SnapshotDamaged
 */
export async function verifySnapshot(
  directory: SnapshotDirectory,
  verified = new Set<string>(),
): Promise<Snapshot> {
  const snapshot = await openSnapshot(directory);
  for (const [name, sum] of Object.entries(snapshot.manifest.files)) {
    const { dev, ino } = await lstat(directory.file(name));
    const key = `${dev}:${ino}:${JSON.stringify(sum)}`;
    if (verified.has(key)) continue;
    await verifyFile(directory.file(name), name, sum);
    verified.add(key);
  }
  return snapshot;
}

/** The same of these files. @throws SnapshotDamaged */
export async function verifyFiles(
  { directory, manifest }: Snapshot,
  names: Iterable<string>,
  pace?: Pace,
): Promise<void> {
  for (const name of names) {
    const sum = manifest.files[name];
    if (!sum) throw new SnapshotDamaged(name, 'is missing');
    await verifyFile(directory.file(name), name, sum, pace);
  }
}

/**
 * A JSON file of a snapshot whose shape others know (`identity.json`), held against its checksum.
 * @throws SnapshotDamaged
 */
export async function readSnapshotJson<T extends TSchema>(
  { directory, manifest }: Pick<Snapshot, 'directory' | 'manifest'>,
  name: string,
  schema: T,
  maxBytes = 2 ** 20,
): Promise<Static<T>> {
  return jsonReader(schema, name)(await readChecked(directory, manifest, name, maxBytes));
}

async function readChecked(
  directory: SnapshotDirectory,
  manifest: Manifest,
  name: string,
  maxBytes: number,
): Promise<Buffer> {
  const sum = Object.hasOwn(manifest.files, name) ? manifest.files[name] : undefined;
  if (!sum) throw new SnapshotDamaged(name, 'is missing');
  const bytes = await readBounded(directory.file(name), name, maxBytes);
  verifyBytes(bytes, name, sum);
  return bytes;
}

async function readRootfs(directory: SnapshotDirectory, manifest: Manifest): Promise<RootfsMeta | null> {
  const name = snapshotFiles.rootfsMeta;
  if (![name, snapshotFiles.rootfsCow].every((file) => Object.hasOwn(manifest.files, file))) return null;
  const meta = decodeRootfsMeta(await readChecked(directory, manifest, name, maxRootfsMetaBytes));
  for (const layer of meta.layers.map(ancestorRootfsCow)) {
    if (!Object.hasOwn(manifest.files, layer))
      throw new SnapshotDamaged(layer, 'is missing, and rootfs.meta needs it');
  }
  return meta;
}

async function readHeader(directory: SnapshotDirectory, manifest: Manifest): Promise<MemoryHeader> {
  const bytes = await readChecked(directory, manifest, snapshotFiles.memfileHeader, maxHeaderBytes);
  const header = decodeHeader(bytes);
  assertMemory(manifest, header);
  return header;
}

/** Header and manifest are of one snapshot, whose memory is there. */
function assertMemory(manifest: Manifest, { build, mapping }: MemoryHeader): void {
  if (build !== manifest.build_id) {
    throw new SnapshotDamaged(snapshotFiles.memfileHeader, `is of build ${build}, not ${manifest.build_id}`);
  }
  if (mapping.memoryBytes !== manifest.machine.memory_mb * 2 ** 20) {
    throw new SnapshotDamaged(
      snapshotFiles.memfileHeader,
      `maps ${mapping.memoryBytes} bytes of a machine with ${manifest.machine.memory_mb} MiB`,
    );
  }
  assertStored({ build, mapping }, (file) =>
    Object.hasOwn(manifest.files, file) ? manifest.files[file]?.length : undefined,
  );
}

/**
 * Holds that every page is in a file long enough.
 * @param lengthOf bytes of the file of that name, undefined when there is none
 * @throws SnapshotDamaged
 */
export function assertStored(
  { build, mapping }: Pick<MemoryHeader, 'build' | 'mapping'>,
  lengthOf: (file: string) => number | undefined,
): void {
  for (const [owner, end] of mapping.storageEnds()) {
    const file = memfileName(owner, build);
    const length = lengthOf(file);
    if (length === undefined) throw new SnapshotDamaged(file, 'is missing, and memfile.header needs it');
    if (length < end) throw new SnapshotDamaged(file, `has ${length} bytes, and memfile.header needs ${end}`);
  }
}

async function assertLength(directory: SnapshotDirectory, name: string, length: number): Promise<void> {
  const stat = await lstat(directory.file(name)).catch((cause: unknown) => {
    if (hasCode(cause, 'ENOENT', 'ENOTDIR')) throw new SnapshotDamaged(name, 'is missing', { cause });
    throw cause;
  });
  if (!stat.isFile()) throw new SnapshotDamaged(name, 'is not a regular file');
  if (stat.size !== length) throw new SnapshotDamaged(name, `has ${stat.size} bytes instead of ${length}`);
}
