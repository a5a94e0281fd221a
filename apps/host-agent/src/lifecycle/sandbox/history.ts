/** The checkpoints that are kept of a sandbox, for people. */
import type { SandboxHistory } from '@perch/protocol';
import type { StateStore } from '../checkpoints/index.ts';
import type { SandboxDriver } from './driver.ts';

export async function historyOf(
  { id, record, resources }: SandboxDriver,
  saved: Pick<StateStore, 'history'>,
): Promise<SandboxHistory> {
  const checkpoints = await saved.history(id);
  const all = record ? await resources.occupied(record) : { ownBytes: 0, sharedBytes: 0 };
  return {
    items: checkpoints.map(({ number, parent, kind, createdAt, occupied: { ownBytes, sharedBytes } }) => ({
      ...{ checkpoint: number, parent, kind, created_at: createdAt },
      ...{ size_bytes: ownBytes + sharedBytes, own_bytes: ownBytes, shared_bytes: sharedBytes },
    })),
    own_bytes: all.ownBytes,
    shared_bytes: all.sharedBytes,
  };
}
