/** Snapshots that are made of others: some files are shared, others are written anew. */
import { chmod, link } from 'node:fs/promises';
import {
  ancestorMemfile,
  ancestorRootfsCow,
  type BuildId,
  copyWholeMemory,
  createMapping,
  type FileSum,
  inheritedBuilds,
  type ManifestFacts,
  type Pace,
  type Snapshot,
  type SnapshotDirectory,
  snapshotFiles,
  type WithMemory,
  writeHeader,
} from '../../snapshot/index.ts';

/** Checksums by file name. */
export type Sums = Record<string, FileSum>;

/** Names of the files that hold the memory. */
export function memoryFiles({ header }: Pick<Snapshot, 'header'>): Set<string> {
  if (!header) return new Set();
  const names = new Set<string>([snapshotFiles.memfile, snapshotFiles.memfileHeader]);
  for (const build of inheritedBuilds(header)) names.add(ancestorMemfile(build));
  return names;
}

/** Names of the files that hold the layers of the disk, without the image below them. */
export function layerFiles({ rootfs }: Snapshot): Set<string> {
  const { rootfsCow, rootfsMeta } = snapshotFiles;
  return new Set([rootfsCow, rootfsMeta, ...(rootfs?.layers ?? []).map(ancestorRootfsCow)]);
}

/** Links all files but those that are written anew. @returns their checksums */
export async function shareFiles(
  { directory, manifest }: Snapshot,
  to: SnapshotDirectory,
  except: ReadonlySet<string>,
): Promise<Sums> {
  const sums: Sums = {};
  for (const [name, sum] of Object.entries(manifest.files)) {
    if (except.has(name)) continue;
    await link(directory.file(name), to.file(name));
    sums[name] = sum;
  }
  return sums;
}

/** Writes all memory as one file that a monitor can map. @returns bytes written */
export async function writeFlatMemory(
  from: WithMemory,
  to: SnapshotDirectory,
  build: BuildId,
  sums: Sums,
  pace?: Pace,
): Promise<number> {
  const memfile = to.file(snapshotFiles.memfile);
  const { diff, sum, bytes } = await copyWholeMemory(from, build, memfile, pace);
  await chmod(memfile, 0o444);
  sums[snapshotFiles.memfile] = sum;
  const mapping = createMapping(from.header.mapping.memoryBytes, diff);
  await writeHeader(to, { generation: 0, build, baseBuild: build, mapping });
  return bytes;
}

export function factsOf({ manifest }: Snapshot): ManifestFacts {
  const { format_version: _, files: _files, ...facts } = manifest;
  return facts;
}
