/** The changes of a build, laid over the mapping of its parent. */
import { assertBuildId, type BuildId } from './build-id.ts';
import { type Mapping, pageBytes, type Run } from './mapping.ts';
import { MappingBuilder, zeroOwner } from './mapping-builder.ts';
import { assertRuns } from './runs.ts';

export interface DirtyRun extends Run {
  /**
   * Offset of the pages in the build's memfile, bytes; null: the guest made them zeros. That is not the same
   * as a page that is in no run, which is still what it was in the parent.
   */
  storageOffset: number | null;
}

export interface Diff {
  build: BuildId;
  /** From the lowest up, without overlap. */
  runs: readonly DirtyRun[];
}

/** A memory of zeros, and over it what its first build holds. @throws RangeError as `mergeMapping` */
export function createMapping(memoryBytes: number, diff?: Diff): Mapping {
  const builder = new MappingBuilder(memoryBytes, 1);
  builder.append(memoryBytes, zeroOwner, 0);
  const zeros = builder.finish();
  return diff ? mergeMapping(zeros, diff) : zeros;
}

/**
 * One pass over both: O(entries + runs). The result names only builds that still hold something.
 * @throws RangeError when the diff does not fit the memory, or the parent knows its build already: entries of
 *   the parent would then point into another file than they meant.
 */
export function mergeMapping(parent: Mapping, diff: Diff): Mapping {
  assertBuildId(diff.build);
  assertRuns(diff.runs, parent.memoryBytes);
  diff.runs.forEach(assertStorage);
  const { starts, owners, storage, builds } = parent.arrays;
  if (builds.includes(diff.build)) throw new RangeError(`The parent has the build ${diff.build} already`);

  // A run adds itself and may split an entry in two.
  const result = new MappingBuilder(parent.memoryBytes, parent.length + 2 * diff.runs.length);
  const ownerOf = new Int32Array(builds.length).fill(-1);
  ownerOf[zeroOwner] = zeroOwner;
  let ownOwner = -1;
  let entry = 0;

  const takeParent = (until: number) => {
    while (result.end < until) {
      while ((starts[entry + 1] as number) <= result.end) entry++;
      const owner = owners[entry] as number;
      if (ownerOf[owner] === -1) ownerOf[owner] = result.addBuild(builds[owner] as BuildId);
      const stored = (storage[entry] as number) + result.end - (starts[entry] as number);
      result.append(Math.min(starts[entry + 1] as number, until), ownerOf[owner] as number, stored);
    }
  };

  for (const run of diff.runs) {
    takeParent(run.offset);
    const until = run.offset + run.length;
    if (run.storageOffset === null) {
      result.append(until, zeroOwner, 0);
      continue;
    }
    if (ownOwner === -1) ownOwner = result.addBuild(diff.build);
    result.append(until, ownOwner, run.storageOffset);
  }
  takeParent(parent.memoryBytes);
  return result.finish();
}

function assertStorage({ storageOffset, length }: DirtyRun): void {
  if (storageOffset === null) return;
  const fits = storageOffset >= 0 && Number.isSafeInteger(storageOffset + length);
  if (!fits || storageOffset % pageBytes)
    throw new RangeError(`Not an offset in a memfile: ${storageOffset}`);
}
