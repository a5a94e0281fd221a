/** The file of a copy-on-write layer: made for a guest, and later sealed for others. */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, unlink } from 'node:fs/promises';
import { ifThere } from '@perch/node-kit';
import type { EmptyOverlay } from './header.ts';

/** @throws EEXIST for one that exists: it holds somebody's data */
export async function makeOverlay(path: string, image: EmptyOverlay, uid: number): Promise<void> {
  // O_NOFOLLOW is implied by O_CREAT | O_EXCL.
  const file = await open(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR, 0o600);
  try {
    await fill(file, image, uid);
  } catch (cause) {
    await unlink(path);
    throw cause;
  } finally {
    await file.close();
  }
}

/** Not synced: an overlay that a power cut tears belongs to a VM that the same power cut ended. */
async function fill(file: FileHandle, image: EmptyOverlay, uid: number): Promise<void> {
  for (const { offset, bytes } of image.parts) await file.write(bytes, 0, bytes.length, offset);
  await file.truncate(image.fileBytes);
  // Last, so that nobody but root has the file open for writing while it is incomplete.
  await file.chown(uid, uid);
}

/** Makes it root's, never to be written again. Safe to repeat. */
export async function seal(path: string): Promise<void> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  await sealOpen(file);
}

/** The same of one that another user has written, in a directory where that user could change names. */
export async function sealMade(file: FileHandle, path: string): Promise<void> {
  const [made, found] = [await file.stat(), await lstat(path)];
  if (found.ino !== made.ino || made.nlink !== 1) throw new Error(`${path} is not the file that was made`);
  await sealOpen(file);
}

async function sealOpen(file: FileHandle): Promise<void> {
  await file.chown(0, 0);
  await file.chmod(0o444);
  await file.sync();
}

export async function unlinkIfThere(path: string): Promise<void> {
  await ifThere(unlink(path));
}
