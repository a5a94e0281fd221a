/** The file of a copy-on-write layer, made for a guest. */
import { constants } from 'node:fs';
import { type FileHandle, open, unlink } from 'node:fs/promises';
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
