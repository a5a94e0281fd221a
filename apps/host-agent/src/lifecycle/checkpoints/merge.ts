/**
 * A checkpoint of a history in another form, which costs less to go on from: all memory in one file, all layers in one.
 * Build, parent and time stay, since it is the same state.
 */
import { failpoint } from '../../failpoints/index.ts';
import {
  buildsOf,
  commitSnapshot,
  isInTooManyFiles,
  isWithMemory,
  memfileName,
  type Pace,
  type Snapshot,
  snapshotFiles,
  sumFile,
  verifyFiles,
  writeRootfsMeta,
} from '../../snapshot/index.ts';
import type { FlatCopyTarget } from './flat-copy.ts';
import { factsOf, layerFiles, memoryFiles, shareFiles, writeFlatMemory } from './parts.ts';

/** Beyond these a checkpoint is merged. */
export interface MergeBounds {
  /** Memory that differs from the file which is mapped, percent of all. */
  memoryPercent: number;
  /** Layers of the disk over its image. */
  layers: number;
}

/** The parts of a snapshot beyond its bound, and the bytes that the merge takes on the disk at most. */
export interface Excess {
  memory: boolean;
  layers: boolean;
  bytes: number;
}

export interface MergeSteps {
  /** Puts one layer that has all of them at `target`, root's and 0444. */
  mergeLayers: (target: string) => Promise<void>;
  pace: Pace;
}

/** Bytes that were written. */
export interface Merged {
  memoryBytes: number;
  layerBytes: number;
}

/** @param layers whether those of its disk are beyond their bound */
export async function excessOf(snapshot: Snapshot, memoryPercent: number, layers: boolean): Promise<Excess> {
  const memoryBytes = memoryBeyond(snapshot, memoryPercent);
  const chain = layers ? await snapshot.directory.bytesOf(layerFiles(snapshot)) : 0;
  return { memory: memoryBytes !== undefined, layers, bytes: (memoryBytes ?? 0) + chain };
}

/** Bytes of the memory in one file, when there is some and it is beyond its bound. */
function memoryBeyond({ manifest, header }: Snapshot, memoryPercent: number): number | undefined {
  if (!header) return undefined;
  const { build: own, baseBuild, mapping } = header;
  const later = buildsOf(header);
  later.delete(baseBuild);
  const changed = [...later].reduce(
    (sum, one) => sum + (manifest.files[memfileName(one, own)]?.length ?? 0),
    0,
  );
  if (changed * 100 <= mapping.memoryBytes * memoryPercent && !isInTooManyFiles(header)) return undefined;
  return [...mapping].reduce((sum, { build, length }) => sum + (build ? length : 0), 0);
}

/**
 * @throws SnapshotDamaged when a byte of what is merged is not as it was written: it would get a right checksum
 * @throws when there is something at `final`; what is at `temporary` is the caller's to remove
 */
export async function mergeSnapshot(
  from: Snapshot,
  what: Pick<Excess, 'memory' | 'layers'>,
  { temporary, final, durable }: FlatCopyTarget,
  { mergeLayers, pace }: MergeSteps,
): Promise<Merged> {
  const anew = new Set([...(what.memory ? memoryFiles(from) : []), ...(what.layers ? layerFiles(from) : [])]);
  await verifyFiles(from, anew, pace);
  await temporary.ensure();
  const sums = await shareFiles(from, temporary, anew);
  failpoint('merge.linked');
  const merged = { memoryBytes: 0, layerBytes: 0 };
  if (what.memory && isWithMemory(from)) {
    merged.memoryBytes = await writeFlatMemory(from, temporary, from.header.build, sums, pace);
  }
  failpoint('merge.memory');
  if (what.layers && from.rootfs) {
    const layer = temporary.file(snapshotFiles.rootfsCow);
    await mergeLayers(layer);
    await writeRootfsMeta(temporary, { ...from.rootfs, layers: [] });
    sums[snapshotFiles.rootfsCow] = await sumFile(layer, snapshotFiles.rootfsCow, pace);
    merged.layerBytes = await temporary.bytesOf([snapshotFiles.rootfsCow]);
  }
  failpoint('merge.layers');
  await pace();
  await commitSnapshot({ temporary, final, durable, sums, facts: factsOf(from) });
  failpoint('merge.made');
  return merged;
}
