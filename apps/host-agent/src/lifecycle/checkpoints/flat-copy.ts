/** A copy of a snapshot that many can go on from: it shares the disk, and has all memory in one file to map, or none. */
import {
  commitSnapshot,
  isOfRunning,
  isWithMemory,
  newBuildId,
  type Snapshot,
  type SnapshotDirectory,
} from '../../snapshot/index.ts';
import { factsOf, memoryFiles, shareFiles, writeFlatMemory } from './parts.ts';

export interface FlatCopyTarget {
  temporary: SnapshotDirectory;
  final: SnapshotDirectory;
  /** Whether it must be there after a power cut. */
  durable: boolean;
}

/**
 * @param keepsMemory whether the copy has the memory, if there is any
 * @throws when there is something at `final`; what is at `temporary` is the caller's to remove
 */
export async function copyFlat(
  from: Snapshot,
  { temporary, final, durable }: FlatCopyTarget,
  keepsMemory = true,
): Promise<void> {
  const build_id = newBuildId();
  await temporary.ensure();
  const withMemory = keepsMemory && isWithMemory(from) ? from : undefined;
  const anew = withMemory
    ? memoryFiles(withMemory)
    : new Set(Object.keys(from.manifest.files).filter(isOfRunning));
  const sums = await shareFiles(from, temporary, anew);
  if (withMemory) await writeFlatMemory(withMemory, temporary, build_id, sums);
  const facts = factsOf(from);
  const parent = facts.build_id;
  await commitSnapshot({
    ...{ temporary, final, sums, durable },
    facts: {
      ...facts,
      ...{ kind: 'copy', build_id, parent, created_at: new Date().toISOString() },
      ...(withMemory ? {} : { memory: false }),
    },
  });
}
