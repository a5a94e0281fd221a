/** Layers of qcow2 as files. */
import type { LayerCodec } from '../changes.ts';
import { readChanges } from './changes.ts';
import { clusterSize, maxTableBytes } from './header.ts';
import { writeLayer } from './write-layer.ts';

export const qcow2Layers: LayerCodec = {
  unitBytes: clusterSize,
  maxListBytes: maxTableBytes,
  read: readChanges,
  write: writeLayer,
};
