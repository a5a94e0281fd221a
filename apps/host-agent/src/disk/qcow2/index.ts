/** Disks as qcow2 overlays over an image that many share, for a monitor that reads qcow2. */
import type { DiskBackend, DiskPlace } from '../backend.ts';
import { seal } from '../sealed.ts';
import { mergeNeed } from './bounds.ts';
import { prepareCapture } from './capture.ts';
import { flatten } from './flatten.ts';
import { merge } from './merge.ts';
import { adopt, create, isThere, remove, takenBytes } from './vm-files.ts';

export { qcow2Layers } from './layers.ts';

/** The files of a VM that has ended go with its directory. */
export async function qcow2Holds(_instance: string, place: DiskPlace, runs: boolean): Promise<boolean> {
  return runs && isThere(place);
}

export function createQcow2Disks(): DiskBackend {
  return {
    capabilities: {
      ...{ format: 'qcow2', opens: 'file', sharesLayers: true, online: 'switch', takesRoom: 'written' },
    },
    ...{ create, adopt, remove, takenBytes },
    // All of a disk lies in the directory of its VM.
    unowned: async () => [],
    prepareCapture,
    settle: seal,
    // What is below the new uppermost file is written already.
    copyBytes: async () => 0,
    // The quota: what the tables of an overlay take beside it is less than one in a thousand.
    promisedBytes: (sizeBytes) => sizeBytes,
    ...{ mergeNeed, merge, flatten },
  };
}
