/**
 * The files of one monitor. QEMU runs as a user that can see only this directory, with it as its working
 * directory, and names everything in it without a path: no parent needs to be readable, and no path is too
 * long for a socket.
 */
import { constants } from 'node:fs';
import { type FileHandle, link, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { VmState } from '../monitor.ts';

export const fileNames = {
  kernel: 'kernel',
  initramfs: 'initramfs',
  /** What guest memory is a private mapping of; nothing ever writes to it. */
  memory: 'memfile',
  /** QEMU's stderr. A pipe would break, and end QEMU, with the process that reads it. */
  log: 'monitor.log',
  qmp: 'qmp.sock',
  /** Device state that the machine starts from. */
  snapfile: 'snapfile',
  /** Device state that QEMU writes. */
  savedDevices: 'devices.state',
} as const;

export interface StartFiles {
  kernel: string;
  initramfs: string;
  /** MiB. */
  memoryMb: number;
  /** What the guest goes on from; without it, it starts from power-on. */
  state?: Pick<VmState, 'memory' | 'devices'> | undefined;
}

/** @returns the log, open for appending. @throws when one of the files exists; what it made is removed */
export async function prepareDirectory(dir: string, files: StartFiles): Promise<FileHandle> {
  const made: string[] = [];
  const make = async (name: string, work: (path: string) => Promise<void>) => {
    await work(join(dir, name));
    made.push(name);
  };
  const { kernel, initramfs, state } = files;
  try {
    await make(fileNames.kernel, (path) => linkReadable(kernel, path));
    await make(fileNames.initramfs, (path) => linkReadable(initramfs, path));
    if (state) {
      await make(fileNames.memory, (path) => linkReadable(state.memory, path));
      await make(fileNames.snapfile, (path) => linkReadable(state.devices, path));
    } else {
      await make(fileNames.memory, (path) => makeMemory(path, files.memoryMb * 2 ** 20));
    }
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

/** The most that device state takes; a machine of ours writes some 12 KiB. */
const maxDeviceState = 16 * 2 ** 20;

/**
 * Takes the device state that QEMU wrote. Its user owns the directory and could have put anything there: only
 * a regular file of that user with no other name is believed to be the one.
 */
export async function takeDeviceState(dir: string, uid: number): Promise<Buffer> {
  const path = join(dir, fileNames.savedDevices);
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = await file.stat();
    if (!stat.isFile() || stat.uid !== uid || stat.nlink !== 1 || stat.size > maxDeviceState) {
      throw new Error('The file of device state is not what the VM monitor writes');
    }
    const bytes = Buffer.alloc(stat.size);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    if (bytesRead !== bytes.length) throw new Error('The file of device state is shorter than it was');
    return bytes;
  } finally {
    await file.close();
    await rm(path, { force: true });
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
