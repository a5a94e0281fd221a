/**
 * The files of one monitor. QEMU runs as a user that can see only this directory, with it as its working
 * directory, and names everything in it without a path: no parent needs to be readable, and no path is too
 * long for a socket.
 */
import { constants } from 'node:fs';
import { type FileHandle, link, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

export const fileNames = {
  kernel: 'kernel',
  initramfs: 'initramfs',
  /** What guest memory is a private mapping of; nothing ever writes to it. */
  memory: 'memfile',
  /** QEMU's stderr. A pipe would break, and end QEMU, with the process that reads it. */
  log: 'monitor.log',
  qmp: 'qmp.sock',
} as const;

export interface BootFiles {
  kernel: string;
  initramfs: string;
  memoryMb: number;
}

/** @returns the log, open for appending. @throws when one of the files exists; what it made is removed */
export async function prepareDirectory(dir: string, files: BootFiles): Promise<FileHandle> {
  const made: string[] = [];
  try {
    await linkReadable(files.kernel, join(dir, fileNames.kernel));
    made.push(fileNames.kernel);
    await linkReadable(files.initramfs, join(dir, fileNames.initramfs));
    made.push(fileNames.initramfs);
    await makeMemory(join(dir, fileNames.memory), files.memoryMb * 2 ** 20);
    made.push(fileNames.memory);
    return await open(join(dir, fileNames.log), 'ax', 0o600);
  } catch (error) {
    for (const name of made) await rm(join(dir, name), { force: true });
    throw error;
  }
}

/** Removes what `prepareDirectory` and QEMU made. The monitor must be gone. */
export async function clearDirectory(dir: string): Promise<void> {
  for (const name of Object.values(fileNames)) await rm(join(dir, name), { force: true });
}

/** A sparse file of zeros that no user can write, root included for as long as it means to. */
async function makeMemory(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'wx', 0o444);
  try {
    await file.truncate(bytes);
    // The mode above passes through the umask.
    await file.chmod(0o444);
  } finally {
    await file.close();
  }
}

async function linkReadable(from: string, to: string): Promise<void> {
  const { mode, uid } = await stat(from);
  if ((mode & 0o777) !== 0o444 || uid !== process.getuid?.()) {
    throw new Error(`${from} must be ours and have mode 444: the VM's user reads it by a hard link`);
  }
  try {
    await link(from, to);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EXDEV') throw cause;
    throw new Error(`${from} and ${to} must be on one file system, for hard links`, { cause });
  }
}

const logTailBytes = 4096;

/**
 * The end of QEMU's stderr, '' when there is none. The directory belongs to the VM's user, who could have put
 * a link or another file there: only a regular file of our own is read.
 */
export async function readLogTail(dir: string): Promise<string> {
  try {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const file = await open(join(dir, fileNames.log), flags);
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
