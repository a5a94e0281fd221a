/**
 * Files in a VM's directory, which belongs to the user of its processes: what is made there for them is root's and
 * read only, and what they made is believed only as far as it can be.
 */
import { constants } from 'node:fs';
import { type FileHandle, link, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '@perch/node-kit';

/** stderr of the VM's processes. A pipe would break, and end them, with the process that reads it. */
export const logName = 'monitor.log';

/** Makes each file by its name, or none. @throws when one of them exists */
export async function makeFiles(
  dir: string,
  files: Readonly<Record<string, (path: string) => Promise<void>>>,
): Promise<void> {
  const made: string[] = [];
  try {
    for (const [name, make] of Object.entries(files)) {
      await make(join(dir, name));
      made.push(name);
    }
  } catch (error) {
    await removeFiles(dir, made);
    throw error;
  }
}

/** No error for one that is not there. */
export async function removeFiles(dir: string, names: readonly string[]): Promise<void> {
  for (const name of names) await rm(join(dir, name), { force: true });
}

/** Opens the log for appending, which must not exist. */
export function createLog(dir: string): Promise<FileHandle> {
  return open(join(dir, logName), 'ax', 0o600);
}

/** A second name for a file that others share. @throws when it is not ours, or could be written to */
export async function linkReadable(from: string, to: string): Promise<void> {
  const { mode, uid } = await stat(from);
  if ((mode & 0o666) !== 0o444 || uid !== process.getuid?.()) {
    throw new Error(`${from} must be ours and have mode 444 or 555: the VM's user reads it by a hard link`);
  }
  try {
    await link(from, to);
  } catch (cause) {
    if (!hasCode(cause, 'EXDEV')) throw cause;
    throw new Error(`${from} and ${to} must be on one file system, for hard links`, { cause });
  }
}

/** A sparse file of zeros that no user can write, root included for as long as it means to. */
export async function makeZeros(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'wx', 0o444);
  try {
    await file.truncate(bytes);
    // The mode above passes through the umask.
    await file.chmod(0o444);
  } finally {
    await file.close();
  }
}

const safely = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * Reads a file that a process of the VM wrote, and removes it. Its user could have put anything there: only a regular
 * file of that user with no other name is believed to be the one.
 * @param what names it in errors
 */
export async function takeFile(path: string, uid: number, maxBytes: number, what: string): Promise<Buffer> {
  const file = await open(path, safely);
  try {
    const found = await file.stat();
    if (!found.isFile() || found.uid !== uid || found.nlink !== 1 || found.size > maxBytes) {
      throw new Error(`The file of ${what} is not what the VM monitor writes`);
    }
    const bytes = Buffer.alloc(found.size);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    if (bytesRead !== bytes.length) throw new Error(`The file of ${what} is shorter than it was`);
    return bytes;
  } finally {
    await file.close();
    await rm(path, { force: true });
  }
}

const logTailBytes = 4096;

/** The end of the log, '' when there is none: only a regular file of our own is read. */
export async function readLogTail(dir: string): Promise<string> {
  try {
    const file = await open(join(dir, logName), safely);
    try {
      const { size, uid } = await file.stat();
      if (uid !== process.getuid?.()) return '';
      const bytes = Buffer.alloc(Math.min(size, logTailBytes));
      const { bytesRead } = await file.read(bytes, 0, bytes.length, size - bytes.length);
      return bytes.subarray(0, bytesRead).toString();
    } finally {
      await file.close();
    }
  } catch {
    return '';
  }
}
