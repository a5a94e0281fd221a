/** Captures a disk: its store gets a second name, or of a guest that runs on a clone of the store does. */
import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { copySparse } from '../../linux/index.ts';
import type { DiskCapture, DiskSpec, DiskUser } from '../backend.ts';
import { type DiskState, imageOf } from '../disk.ts';
import { linkOpen, sealOpen } from '../sealed.ts';
import { cloneStore } from './store.ts';
import { capturedPath, openStore, storePath } from './vm-disk.ts';

export async function prepareCapture(
  instance: string,
  spec: DiskSpec,
  runsOn: DiskUser | undefined,
): Promise<DiskCapture> {
  return runsOn ? captureRunning(instance, spec) : captureStopped(instance, spec);
}

function captureStopped(instance: string, spec: DiskSpec): DiskCapture {
  return {
    holdStill: () => Promise.reject(new Error('The guest was to stay stopped')),
    write: async (parent, nameOf) => {
      const { store } = await openStore(instance, spec);
      try {
        await store.sync();
        const target = nameOf('uppermost');
        await linkOpen(store, storePath(spec.dir), target);
        return stateOf(parent, target);
      } finally {
        await store.close();
      }
    },
  };
}

async function captureRunning(instance: string, spec: DiskSpec): Promise<DiskCapture> {
  const path = capturedPath(spec.dir);
  // Of a capture that was given up.
  await rm(path, { recursive: true, force: true });
  const { store } = await openStore(instance, spec);
  // A clone first writes back what is dirty in the page cache.
  await store.sync().finally(() => store.close());
  let ino: number | undefined;
  return {
    holdStill: async () => {
      await using clone = await open(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR, 0o600);
      try {
        await cloneOrCopy(instance, spec, clone);
      } catch (error) {
        // The guest runs on, and what it overwrites would keep its room.
        await rm(path);
        throw error;
      }
      ino = (await clone.stat()).ino;
    },
    write: async (parent, nameOf) => {
      await using clone = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      if (ino === undefined || (await clone.stat()).ino !== ino) {
        throw new Error('The clone of the copy-on-write store was changed for another file');
      }
      await sealOpen(clone);
      const target = nameOf('uppermost');
      await linkOpen(clone, path, target);
      await rm(path);
      return stateOf(parent, target);
    },
  };
}

async function cloneOrCopy(instance: string, spec: DiskSpec, clone: FileHandle): Promise<void> {
  const { store, usedBytes } = await openStore(instance, spec);
  try {
    if (cloneStore(store, clone, usedBytes)) return;
    await clone.truncate((await store.stat()).size);
    await copySparse(store, clone, { at: 0, offset: 0, length: usedBytes });
  } finally {
    await store.close();
  }
}

function stateOf(parent: DiskState, layer: string): DiskState {
  return { format: 'dm-snapshot', base: imageOf(parent), layers: [layer] };
}
