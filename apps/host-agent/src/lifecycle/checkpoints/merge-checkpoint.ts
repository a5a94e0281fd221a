/**
 * Merges the memory and the layers of a checkpoint that are beyond their bounds, in a place beside it. Layers that another
 * kind of disk wrote become one of this host's.
 */
import { link } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DiskBackend, isOfOtherKind } from '../../disk/index.ts';
import { failpoint } from '../../failpoints/index.ts';
import {
  ExchangeNotDurable,
  exchangeSnapshots,
  openSnapshot,
  type Snapshot,
  SnapshotDirectory,
  snapshotFiles,
} from '../../snapshot/index.ts';
import { convertSnapshot } from './convert.ts';
import { diskOf } from './disk.ts';
import type { FlatCopyTarget } from './flat-copy.ts';
import { type LayersUserDeps, withLayersUser } from './layers-user.ts';
import { excessOf, type MergeBounds, type Merged, mergeSnapshot } from './merge.ts';
import type { MergeCheckpoint, PreparedMerge } from './merges.ts';
import type { StateStore } from './saved-states.ts';

export interface MergeCheckpointDeps extends LayersUserDeps {
  disks: Pick<DiskBackend, 'capabilities' | 'merge' | 'mergeNeed'>;
  saved: StateStore;
  bounds: MergeBounds;
}

/** Between two steps of a few MiB, so that whoever waits for this process gets it in between. */
const rest = () => sleep(2);

export function checkpointMerger(deps: MergeCheckpointDeps): MergeCheckpoint {
  return async ({ id }, checkpoint, signal) => {
    const place = deps.saved.directory(id, checkpoint);
    const from = await openSnapshot(place);
    if (isOfOtherKind(diskOf(from), deps.disks)) {
      const { format } = deps.disks.capabilities;
      return prepare('converted', place, deps.saved, async (target) => {
        await convertSnapshot(from, format, target, deps, { signal, rest });
        return { memoryBytes: 0, layerBytes: await target.final.bytesOf([snapshotFiles.rootfsCow]) };
      });
    }
    const { memoryPercent, layers } = deps.bounds;
    const need = await deps.disks.mergeNeed(diskOf(from), from.manifest.machine.disk_mb * 2 ** 20, layers);
    const excess = await excessOf(from, memoryPercent, need !== undefined);
    if (!(excess.memory || excess.layers)) return undefined;
    return prepare('merged', place, deps.saved, async (target) => {
      await deps.room.require(excess.bytes, `The merge of sandbox ${id}`);
      return mergeSnapshot(from, excess, target, {
        mergeLayers: (layer) => mergeLayers(from, layer, signal, deps),
        pace: async () => {
          signal.throwIfAborted();
          await rest();
        },
      });
    });
  };
}

/** Has `make` make what takes the place of a checkpoint. */
async function prepare(
  what: PreparedMerge['what'],
  place: SnapshotDirectory,
  saved: StateStore,
  make: (target: FlatCopyTarget) => Promise<Merged>,
): Promise<PreparedMerge> {
  await using undo = new AsyncDisposableStack();
  const { path } = undo.use(await saved.scratch());
  const made = new SnapshotDirectory(join(path, 'made'));
  const merged = await make({
    temporary: new SnapshotDirectory(join(path, 'new')),
    final: made,
    durable: true,
  });
  const scratch = undo.move();
  let mayComeBack = false;
  return {
    ...{ what, merged },
    replace: async () => {
      try {
        await exchangeSnapshots(made, place);
      } catch (error) {
        mayComeBack = error instanceof ExchangeNotDurable;
        throw error;
      }
    },
    [Symbol.asyncDispose]: async () => {
      // The next start removes what was replaced, when the directories have been read from the disk.
      if (mayComeBack) return;
      await scratch.disposeAsync();
      failpoint('merge.removed');
    },
  };
}

async function mergeLayers(from: Snapshot, target: string, signal: AbortSignal, deps: MergeCheckpointDeps) {
  await withLayersUser('merge', from.manifest.machine.disk_mb, deps, async (tool) => {
    await link(await deps.disks.merge(diskOf(from), { ...tool, signal }), target);
  });
}
