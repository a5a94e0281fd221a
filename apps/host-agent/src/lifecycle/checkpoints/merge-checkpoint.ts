/** Merges the memory and the layers of a checkpoint that are beyond their bounds, in a place beside it. */

import { link } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DiskBackend } from '../../disk/index.ts';
import { failpoint } from '../../failpoints/index.ts';
import {
  ExchangeNotDurable,
  exchangeSnapshots,
  openSnapshot,
  type Snapshot,
  SnapshotDirectory,
} from '../../snapshot/index.ts';
import type { DiskRoom } from '../journal/index.ts';
import { diskOf } from './disk.ts';
import { type LayersUserDeps, withLayersUser } from './layers-user.ts';
import { excessOf, type MergeBounds, mergeSnapshot } from './merge.ts';
import type { MergeCheckpoint } from './merges.ts';
import type { StateStore } from './saved-states.ts';

export interface MergeCheckpointDeps extends LayersUserDeps {
  disks: Pick<DiskBackend, 'merge' | 'mergeNeed'>;
  saved: StateStore;
  bounds: MergeBounds;
  room: Pick<DiskRoom, 'require'>;
}

/** Between two steps of a few MiB, so that whoever waits for this process gets it in between. */
const restMs = 2;

export function checkpointMerger(deps: MergeCheckpointDeps): MergeCheckpoint {
  return async ({ id }, checkpoint, signal) => {
    const place = deps.saved.directory(id, checkpoint);
    const from = await openSnapshot(place);
    const { memoryPercent, layers } = deps.bounds;
    const need = await deps.disks.mergeNeed(diskOf(from), from.manifest.machine.disk_mb * 2 ** 20, layers);
    const excess = await excessOf(from, memoryPercent, need !== undefined);
    if (!(excess.memory || excess.layers)) return undefined;
    await using undo = new AsyncDisposableStack();
    const { path } = undo.use(await deps.saved.scratch());
    await deps.room.require(excess.bytes, `The merge of sandbox ${id}`);
    const made = new SnapshotDirectory(join(path, 'made'));
    const target = { temporary: new SnapshotDirectory(join(path, 'new')), final: made, durable: true };
    const merged = await mergeSnapshot(from, excess, target, {
      mergeLayers: (layer) => mergeLayers(from, layer, signal, deps),
      pace: async () => {
        signal.throwIfAborted();
        await sleep(restMs);
      },
    });
    const scratch = undo.move();
    let mayComeBack = false;
    return {
      merged,
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
  };
}

async function mergeLayers(from: Snapshot, target: string, signal: AbortSignal, deps: MergeCheckpointDeps) {
  await withLayersUser('merge', from.manifest.machine.disk_mb, deps, async (tool) => {
    await link(await deps.disks.merge(diskOf(from), { ...tool, signal }), target);
  });
}
