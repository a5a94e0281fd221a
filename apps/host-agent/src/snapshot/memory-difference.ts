/**
 * The memory of a guest on its way into the files of a snapshot: first the pages, while the guest stands still, then
 * what they mean over the memory of the parent.
 */
import { chmod } from 'node:fs/promises';
import type { BuildId } from './build-id.ts';
import { buildsOf, type MemoryHeader } from './header.ts';
import type { Mapping, Run } from './mapping.ts';
import { copyMemory, type MemoryCopy } from './memory-copy.ts';
import { flatMappingOf, type MemoryImage } from './memory-image.ts';
import { createMapping, type Diff, mergeMapping } from './merge.ts';

/** The difference of a guest's memory from files that are there. */
export interface MemoryDifference {
  /**
   * - `mapped-file`: all that differs from the flat memfile of the image that the guest went on from (from zeros, when
   *   it was booted), however often it was saved since.
   * - `parent`: all that was written since the guest was the parent of this state.
   */
  since: 'mapped-file' | 'parent';
  /** Sorted, none touching the next. A page may be in them and be the same. */
  runs: readonly Run[];
  /** Copies runs into `into`, one after the other. Until the guest is thawed or killed. */
  read(runs: readonly Run[], into: Uint8Array): Promise<void>;
}

export interface MemoryTarget {
  build: BuildId;
  /** The snapshot that the guest went on from, or was saved as last; undefined when it was booted. */
  parent: MemoryImage | undefined;
  memoryBytes: number;
}

/** VMs get hard links of what they go on from. */
export const readableByVms = 0o444;

/** Writes the pages of a difference. @param path of the memfile, which must not exist */
export async function copyDifference(
  { runs, read }: MemoryDifference,
  { build, parent, memoryBytes }: MemoryTarget,
  path: string,
): Promise<MemoryCopy> {
  const copy = await copyMemory({
    ...{ source: { read }, dirty: runs, memoryBytes, build, path },
    layout: parent ? 'compact' : 'flat',
  });
  await chmod(path, readableByVms);
  return copy;
}

/** The memory that a difference makes of the parent's. */
export async function headerOf(
  since: MemoryDifference['since'],
  diff: Diff,
  { build, parent, memoryBytes }: MemoryTarget,
): Promise<MemoryHeader> {
  if (!parent) return { generation: 0, build, baseBuild: build, mapping: createMapping(memoryBytes, diff) };
  const { generation, baseBuild } = parent.header;
  const mapping = mergeMapping(await mappingUnder(since, parent), diff);
  return { generation: generation + 1, build, baseBuild, mapping };
}

/**
 * A guest has mapped the flat memfile of what it went on from. Its parent has the same one, or one that was made of
 * that and of pages which all are in the difference again.
 */
async function mappingUnder(since: MemoryDifference['since'], parent: MemoryImage): Promise<Mapping> {
  return since === 'parent' ? parent.header.mapping : flatMappingOf(parent);
}

/** Builds of the parent whose memfiles this memory needs: the flat one, and what of the others is still to be seen. */
export function inheritedBuilds(header: MemoryHeader): Set<BuildId> {
  const builds = buildsOf(header);
  builds.delete(header.build);
  return builds;
}
