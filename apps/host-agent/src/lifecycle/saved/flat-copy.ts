/** A copy of a snapshot that many can go on from: it shares the disk, and has all memory in one file to map. */
import { chmod, link } from 'node:fs/promises';
import {
  ancestorMemfile,
  commitSnapshot,
  copyWholeMemory,
  createMapping,
  type FileSum,
  newBuildId,
  type Snapshot,
  type SnapshotDirectory,
  snapshotFiles,
  writeHeader,
} from '../../snapshot/index.ts';

export interface FlatCopyTarget {
  temporary: SnapshotDirectory;
  final: SnapshotDirectory;
  /** Whether it must be there after a power cut. */
  durable: boolean;
}

/** @throws when there is something at `final`; what is at `temporary` is the caller's to remove */
export async function copyFlat(from: Snapshot, { temporary, final, durable }: FlatCopyTarget): Promise<void> {
  const { directory, manifest, header } = from;
  const build = newBuildId();
  await temporary.ensure();
  const sums: Record<string, FileSum> = {};
  for (const [name, sum] of Object.entries(manifest.files)) {
    if (!isShared(name, from)) continue;
    await link(directory.file(name), temporary.file(name));
    sums[name] = sum;
  }
  const memfile = temporary.file(snapshotFiles.memfile);
  const { diff, sum } = await copyWholeMemory(from, build, memfile);
  await chmod(memfile, 0o444);
  sums[snapshotFiles.memfile] = sum;
  const mapping = createMapping(header.mapping.memoryBytes, diff);
  await writeHeader(temporary, { generation: 0, build, baseBuild: build, mapping });
  const { format_version: _, files: _files, ...facts } = manifest;
  const parent = manifest.build_id;
  await commitSnapshot({
    ...{ temporary, final, sums, durable },
    facts: { ...facts, kind: 'copy', build_id: build, parent, created_at: new Date().toISOString() },
  });
}

/** Everything but the memory, which the copy has in a form of its own. */
function isShared(name: string, { header }: Snapshot): boolean {
  const memory = new Set<string>([snapshotFiles.memfile, snapshotFiles.memfileHeader]);
  for (const build of header.mapping.builds) {
    if (build !== header.build) memory.add(ancestorMemfile(build));
  }
  if (header.baseBuild !== header.build) memory.add(ancestorMemfile(header.baseBuild));
  return !memory.has(name);
}
