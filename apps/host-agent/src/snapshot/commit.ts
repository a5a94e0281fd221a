/** Makes a directory of files a snapshot: durable, all of it or nothing, the manifest last. */
import { lstat, readdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { placeDurably, sync, writeDurably } from '@perch/node-kit';
import { failpoint } from '../failpoints/index.ts';
import { type FileSum, sumFile } from './checksum.ts';
import { isSnapshotFile, type SnapshotDirectory, snapshotFiles } from './layout.ts';
import { decodeManifest, encodeManifest, type Manifest, type ManifestFacts } from './manifest.ts';

/** Sums that the caller has already, by file name. Files without one are read. */
export type KnownSums = Readonly<Record<string, FileSum>>;

export interface CommitRequest {
  /** Holds all files but the manifest; nobody writes to them any more. On the file system of `final`. */
  temporary: SnapshotDirectory;
  /** Its later place: nothing is there, or an empty directory. */
  final: SnapshotDirectory;
  facts: ManifestFacts;
  sums?: KnownSums;
  /** Whether it must be there after a power cut; default true. */
  durable?: boolean;
}

/**
 * After it has resolved, the snapshot is at `final` even if the power fails. When it rejects, `final` is not
 * there, unless the last fsync was what failed; what is at `temporary` is the caller's to remove.
 * @throws Error ENOTEMPTY or EEXIST when there is something at `final`
 */
export async function commitSnapshot(request: CommitRequest): Promise<Manifest> {
  const { temporary, final, facts, sums, durable } = request;
  const manifest = await sealSnapshot(temporary, facts, sums, durable);
  failpoint('commit.manifest');
  if (durable === false) await rename(temporary.path, final.path);
  else await placeDurably(temporary.path, final.path);
  return manifest;
}

/**
 * Writes the manifest of a directory that keeps its place. Safe to repeat.
 * @throws Error when the directory holds what no snapshot has, or a known sum is not that of its file
 * @throws SnapshotDamaged when files of a snapshot are not there
 */
export async function sealSnapshot(
  directory: SnapshotDirectory,
  facts: ManifestFacts,
  sums: KnownSums = {},
  durable = true,
): Promise<Manifest> {
  const names = (await readdir(directory.path)).filter((name) => name !== snapshotFiles.manifest).sort();
  const files: Record<string, FileSum> = {};
  for (const name of names) files[name] = await sealFile(directory, name, sums[name], durable);
  const unused = Object.keys(sums).find((name) => !names.includes(name));
  if (unused !== undefined)
    throw new Error(`There is a checksum of ${unused}, which ${directory.path} has not`);
  const bytes = encodeManifest(facts, files);
  const manifest = directory.file(snapshotFiles.manifest);
  if (durable) await writeDurably(manifest, bytes);
  else await writeFile(manifest, bytes, { mode: 0o600 });
  return decodeManifest(bytes);
}

async function sealFile(
  directory: SnapshotDirectory,
  name: string,
  known: FileSum | undefined,
  durable: boolean,
): Promise<FileSum> {
  const path = join(directory.path, name);
  const stat = await lstat(path);
  if (!isSnapshotFile(name) || !stat.isFile()) throw new Error(`${path} is not a file of a snapshot`);
  if (known && known.length !== stat.size) {
    throw new Error(`${path} has ${stat.size} bytes, and its checksum is of ${known.length}`);
  }
  const [sum] = await Promise.all([known ?? sumFile(path, name), durable && sync(path)]);
  return sum;
}
