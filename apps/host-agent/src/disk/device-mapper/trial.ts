/** Whether disks of device-mapper serve a host: what a kernel says that it has, a container may still be refused. */
import { constants } from 'node:fs';
import { lstat, mkdir, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, ifThere } from '@perch/node-kit';
import { seal } from '../sealed.ts';
import { ownChunkBytes } from './exception-store/index.ts';
import { cloneStore } from './store.ts';
import { create, hasDevice, remove, storePath } from './vm-disk.ts';

const id = 'trial';
const sizeBytes = 2 ** 20;

/**
 * Makes a small disk, copies its store and removes both.
 * @param dir a directory for it, on the file system of all disks; it is made, and gone afterwards
 * @returns the reason against them, a sentence with its remedy; undefined when they serve
 */
export async function deviceMapperFails(instance: string, dir: string): Promise<string | undefined> {
  try {
    try {
      return await tryOne(instance, dir);
    } finally {
      await clear(instance, dir);
    }
  } catch (error) {
    // That tells nothing about the kernel.
    if (hasCode(error, 'ENOSPC')) return undefined;
    return `a disk of it cannot be made and removed (${(error as Error).message}); see whether dmsetup can.`;
  }
}

async function tryOne(instance: string, dir: string): Promise<string | undefined> {
  await mkdir(dir);
  const image = join(dir, 'image');
  await writeFile(image, Buffer.alloc(ownChunkBytes));
  await seal(image);
  await create(instance, { id, dir, uid: 0, sizeBytes }, { format: 'image', image });
  await using store = await open(storePath(dir), constants.O_RDONLY | constants.O_NOFOLLOW);
  await using copy = await open(join(dir, 'copy'), 'wx+');
  if (cloneStore(store, copy, ownChunkBytes)) return undefined;
  return 'the data directory has no reflinks that serve it, so each resume and fork would copy the disk; set PERCH_DATA_DIR to an XFS (mkfs.xfs).';
}

/** Removes what a trial has left that was cut short, on any machine: it loads no module of the kernel. */
export async function clearTrial(instance: string, dir: string): Promise<void> {
  if (hasDevice(instance, { id }) || (await ifThere(lstat(dir)))) await clear(instance, dir);
}

async function clear(instance: string, dir: string): Promise<void> {
  await remove(instance, { id, dir });
  await rm(dir, { recursive: true, force: true });
}
