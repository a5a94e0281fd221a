/** A copy of a snapshot that many can go on from: it shares the disk, and has all memory in one file to map. */
import { commitSnapshot, newBuildId, type Snapshot, type SnapshotDirectory } from '../../snapshot/index.ts';
import { factsOf, memoryFiles, shareFiles, writeFlatMemory } from './parts.ts';

export interface FlatCopyTarget {
  temporary: SnapshotDirectory;
  final: SnapshotDirectory;
  /** Whether it must be there after a power cut. */
  durable: boolean;
}

/** @throws when there is something at `final`; what is at `temporary` is the caller's to remove */
export async function copyFlat(from: Snapshot, { temporary, final, durable }: FlatCopyTarget): Promise<void> {
  const build_id = newBuildId();
  await temporary.ensure();
  const sums = await shareFiles(from, temporary, memoryFiles(from));
  await writeFlatMemory(from, temporary, build_id, sums);
  const facts = factsOf(from);
  const parent = facts.build_id;
  await commitSnapshot({
    ...{ temporary, final, sums, durable },
    facts: { ...facts, kind: 'copy', build_id, parent, created_at: new Date().toISOString() },
  });
}
