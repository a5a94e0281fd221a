/**
 * The file that has what a guest writes. Its room is taken when it is made: a first write to a chunk and the note that
 * the chunk is there go where there is room for them, whatever the host's disk has left, since without either the
 * kernel would give up the whole store. A later write to the chunk, which may be shared with a state or discarded, may
 * find the host full. The guest's monitor is told so then and waits.
 */
import { constants, fstatSync, ftruncateSync } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { hasCode } from '@perch/node-kit';
import { cloneFile, copySparse, dataRuns, punchHole, takeRoom, unshare } from '../../linux/index.ts';
import { type DiskState, layersOf } from '../disk.ts';
import { assertSealed, sealOpen } from '../sealed.ts';
import { areasNear, fullStoreBytes, ownChunkBytes, readStore } from './exception-store/index.ts';

/**
 * @param from the state that it goes on from
 * @returns the store, open for reading and writing
 * @throws EEXIST for one that exists: it holds somebody's data; ENOSPC; StoreDamaged
 */
export async function makeStore(path: string, from: DiskState, sizeBytes: number): Promise<FileHandle> {
  const file = await open(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR, 0o600);
  try {
    const bytes = fullStoreBytes(sizeBytes);
    const below = storeOf(from);
    if (below === undefined) await takeRoom(file.fd, bytes);
    else await goOn(below, file, sizeBytes, bytes);
    return file;
  } catch (cause) {
    await file.close();
    await rm(path);
    throw cause;
  }
}

/**
 * The store of a state, undefined of an image.
 * @throws Error for several, which another program may have made: a store lies on the image
 */
export function storeOf(state: DiskState): string | undefined {
  const [store, ...others] = layersOf(state);
  if (others.length === 0) return store;
  throw new Error(`A disk of device-mapper has one store over its image, and not ${others.length + 1}`);
}

async function goOn(below: string, file: FileHandle, sizeBytes: number, bytes: number): Promise<void> {
  await assertSealed(below);
  await using source = await open(below, constants.O_RDONLY | constants.O_NOFOLLOW);
  const { chunkBytes, usedBytes } = await readStore(source, sizeBytes);
  if (chunkBytes !== ownChunkBytes) {
    throw new Error(
      `${below} has chunks of ${chunkBytes} bytes; a disk can go on from it once it is flattened`,
    );
  }
  if (usedBytes > bytes) {
    throw new Error(
      `${below} is longer than a store of its disk; a disk can go on from it once it is flattened`,
    );
  }
  const cloned = cloneStore(source, file, usedBytes);
  await takeRoom(file.fd, bytes);
  if (!cloned) await copySparse(source, file, { at: 0, offset: 0, length: usedBytes });
}

/**
 * Makes an empty file the same as a store. The kernel can go on with either: the areas that it writes its notes to are
 * not shared.
 * @param usedBytes of the store
 * @returns false where the file system cannot clone, or not give a part of a clone blocks of its own
 * @throws SystemCallError ENOSPC, and the file is empty again
 */
export function cloneStore(from: FileHandle, to: FileHandle, usedBytes: number): boolean {
  if (!cloneFile(from.fd, to.fd)) return false;
  try {
    const { size } = fstatSync(to.fd);
    for (const { offset, length } of areasNear(usedBytes)) {
      if (offset < size) unshare(to.fd, offset, length);
    }
    return true;
  } catch (error) {
    ftruncateSync(to.fd, 0);
    // Some clone, and unshare nothing: btrfs.
    if (hasCode(error, 'EOPNOTSUPP')) return false;
    throw error;
  }
}

/** Gives back the room that was taken and is not used. */
export async function settle(path: string): Promise<void> {
  await using file = await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
  const { size } = await file.stat();
  let end = 0;
  for (const { offset, length } of dataRuns(file.fd, 0, size)) end = offset + length;
  if (end < size) punchHole(file.fd, end, size - end);
  await sealOpen(file);
}
