/** Disks as snapshots of device-mapper over an image that many share: for every monitor that opens block devices. */
import type { DiskBackend, DiskPlace } from '../backend.ts';
import { prepareCapture } from './capture.ts';
import { fullStoreBytes } from './exception-store/index.ts';
import { flatten } from './flatten.ts';
import { SharedRoom } from './shared-room.ts';
import { settle } from './store.ts';
import {
  adopt,
  create,
  hasDevice,
  hasStore,
  lossOf,
  remove,
  storeBytes,
  unowned,
  usedBytes,
} from './vm-disk.ts';

export { deviceMapperLacks } from './lacks.ts';
export { storeLayers } from './layers.ts';
export { clearTrial, deviceMapperFails } from './trial.ts';

/** A device outlives its VM. */
export async function deviceMapperHolds(instance: string, place: DiskPlace, runs: boolean): Promise<boolean> {
  return hasDevice(instance, place) || (runs && hasStore(place));
}

export function createDeviceMapperDisks(instance: string): DiskBackend {
  const shared = new SharedRoom();
  return {
    capabilities: {
      ...{ format: 'dm-snapshot', opens: 'block', sharesLayers: false, online: 'clone', takesRoom: 'ahead' },
    },
    async create(spec, from) {
      if (from.format === 'image') return create(instance, spec, from);
      shared.mayGrow(spec);
      const disk = await create(instance, spec, from);
      await shared.lookAt(spec);
      return disk;
    },
    async adopt(spec) {
      const disk = await adopt(instance, spec);
      await shared.lookAt(spec);
      return disk;
    },
    async remove(place) {
      await remove(instance, place);
      shared.forget(place);
    },
    unowned: (owned) => unowned(instance, owned),
    async prepareCapture(spec, runsOn) {
      const capture = await prepareCapture(instance, spec, runsOn);
      return {
        async holdStill() {
          shared.mayGrow(spec);
          try {
            await capture.holdStill();
          } catch (error) {
            await shared.lookAt(spec);
            throw error;
          }
        },
        async write(parent, nameOf) {
          const state = await capture.write(parent, nameOf);
          if (runsOn) await shared.lookAt(spec);
          return state;
        },
      };
    },
    settle,
    lossOf: (place) => lossOf(instance, place),
    takenBytes: async (place) => Math.max(0, (await storeBytes(place)) - shared.of(place)),
    // Of a clone nothing is written, and as much may be when the guest writes again what it shares.
    copyBytes: async (place) => usedBytes(instance, place),
    promisedBytes: fullStoreBytes,
    // Each state has one file with everything.
    mergeNeed: async () => undefined,
    merge: () => Promise.reject(new Error('A device-mapper disk has nothing to merge')),
    flatten,
  };
}
