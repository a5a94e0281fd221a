/** Disks as snapshots of device-mapper over an image that many share: for every monitor that opens block devices. */
import type { DiskBackend, DiskPlace } from '../backend.ts';
import { prepareCapture } from './capture.ts';
import { fullStoreBytes } from './exception-store/index.ts';
import { flatten } from './flatten.ts';
import { settle } from './store.ts';
import { adopt, create, hasDevice, hasStore, remove, takenBytes, unowned } from './vm-disk.ts';

export { deviceMapperLacks } from './lacks.ts';
export { storeLayers } from './layers.ts';
export { deviceMapperFails } from './trial.ts';

/** A device outlives its VM. */
export async function deviceMapperHolds(instance: string, place: DiskPlace, runs: boolean): Promise<boolean> {
  return hasDevice(instance, place) || (runs && hasStore(place));
}

export function createDeviceMapperDisks(instance: string): DiskBackend {
  return {
    capabilities: {
      ...{ format: 'dm-snapshot', opens: 'block', sharesLayers: false, online: 'clone', takesRoom: 'ahead' },
    },
    create: (spec, from) => create(instance, spec, from),
    adopt: (spec) => adopt(instance, spec),
    remove: (place) => remove(instance, place),
    unowned: (owned) => unowned(instance, owned),
    prepareCapture: (spec, runsOn) => prepareCapture(instance, spec, runsOn),
    settle,
    takenBytes,
    promisedBytes: fullStoreBytes,
    // Each state has one file with everything.
    mergeNeed: async () => undefined,
    merge: () => Promise.reject(new Error('A device-mapper disk has nothing to merge')),
    flatten,
  };
}
