/** The checkpoints that are kept of a sandbox, for people. */
import type { SandboxHistory } from '@perch/protocol';
import { occupiedBy } from '../../snapshot/index.ts';
import type { StateStore } from '../checkpoints/index.ts';
import type { SandboxDriver } from './driver.ts';

/** @param diskRoots below them lie the files of all disks, which may share blocks */
export async function historyOf(
  { id, record, resources }: SandboxDriver,
  saved: Pick<StateStore, 'history' | 'paths'>,
  diskRoots: readonly string[],
): Promise<SandboxHistory> {
  const checkpoints = await saved.history(id);
  const places = record ? [resources.directory(record), ...(await saved.paths(id))] : [];
  const all = await occupiedBy(places, diskRoots);
  return {
    items: checkpoints.map(
      ({ number, parent, kind, memory, createdAt, occupied: { ownBytes, sharedBytes } }) => ({
        ...{ checkpoint: number, parent, kind, memory, created_at: createdAt },
        ...{ size_bytes: ownBytes + sharedBytes, own_bytes: ownBytes, shared_bytes: sharedBytes },
      }),
    ),
    own_bytes: all.ownBytes,
    shared_bytes: all.sharedBytes,
  };
}
