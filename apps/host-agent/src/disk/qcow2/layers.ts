/** Layers of qcow2 as files. */
import { lstat } from 'node:fs/promises';
import type { LayerCodec } from '../changes.ts';
import { layersOf } from '../disk.ts';
import { maxMapBytes, readChanges } from './changes.ts';
import { clusterSize } from './header.ts';
import { writeLayer } from './write-layer.ts';

export const qcow2Layers: LayerCodec = {
  unitBytes: clusterSize,
  async room(state, sizeBytes, unitBytes) {
    const stats = await Promise.all(layersOf(state).map((path) => lstat(path)));
    const bytes = stats.reduce((sum, { blocks }) => sum + blocks * 512, 0);
    const clusters = Math.ceil(bytes / clusterSize) * Math.max(unitBytes, clusterSize);
    return bytes + Math.min(maxMapBytes(sizeBytes), bytes) + clusters;
  },
  read: readChanges,
  write: writeLayer,
};
