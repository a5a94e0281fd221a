/** Reading files that may not be what they should be, and writing all of what is to be written. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { hasCode } from '@perch/node-kit';
import { SnapshotDamaged } from './damaged.ts';

/**
 * Opens a regular file for reading, and nothing else: a link could lead out of the directory, a pipe would
 * hold us up.
 * @param name for the error
 * @throws SnapshotDamaged when there is none
 */
export async function openRegular(path: string, name: string): Promise<FileHandle> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags).catch((cause: unknown) => {
    if (hasCode(cause, 'ENOENT', 'ENOTDIR')) throw new SnapshotDamaged(name, 'is missing', { cause });
    if (hasCode(cause, 'ELOOP', 'ENXIO')) throw new SnapshotDamaged(name, 'is not a regular file', { cause });
    throw cause;
  });
  try {
    if (!(await file.stat()).isFile()) throw new SnapshotDamaged(name, 'is not a regular file');
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * The whole of a small file.
 * @throws SnapshotDamaged when there is none, or when it has more than `maxBytes`
 */
export async function readBounded(path: string, name: string, maxBytes: number): Promise<Buffer> {
  await using file = await openRegular(path, name);
  const { size } = await file.stat();
  if (size > maxBytes)
    throw new SnapshotDamaged(name, `has ${size} bytes, more than the ${maxBytes} allowed`);
  const bytes = Buffer.allocUnsafe(size);
  await readFully(file, bytes, 0, name);
  return bytes;
}

/** Fills `into` from `offset` on. @throws SnapshotDamaged where the file ends first, or its medium fails */
export async function readFully(file: FileHandle, into: Buffer, offset: number, name: string): Promise<void> {
  let done = 0;
  while (done < into.length) {
    const { bytesRead } = await file
      .read(into, done, into.length - done, offset + done)
      .catch((cause: unknown) => {
        if (!hasCode(cause, 'EIO')) throw cause;
        throw new SnapshotDamaged(name, `cannot be read at offset ${offset + done}`, { cause });
      });
    if (bytesRead === 0) throw new SnapshotDamaged(name, `ends at ${offset + done}, too early`);
    done += bytesRead;
  }
}

/** Writes all pieces one after the other from `position` on. */
export async function writeFully(file: FileHandle, pieces: Buffer[], position: number): Promise<void> {
  let at = position;
  let rest = pieces;
  while (rest.length > 0) {
    let { bytesWritten } = await file.writev(rest, at);
    at += bytesWritten;
    const next = rest.findIndex((piece) => {
      if (bytesWritten < piece.length) return true;
      bytesWritten -= piece.length;
      return false;
    });
    if (next < 0) return;
    const [first, ...others] = rest.slice(next);
    rest = first ? [first.subarray(bytesWritten), ...others] : [];
  }
}
