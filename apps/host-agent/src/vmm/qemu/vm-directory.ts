/**
 * The files of one monitor. QEMU runs as a user that can see only this directory, with it as its working
 * directory, and names everything in it without a path: no parent needs to be readable, and no path is too
 * long for a socket.
 */
import type { FileHandle } from 'node:fs/promises';
import { flatMemoryOf } from '../../snapshot/index.ts';
import type { VmState } from '../monitor.ts';
import { createLog, linkReadable, logName, makeFiles, makeZeros, removeFiles } from '../process/index.ts';

export const fileNames = {
  kernel: 'kernel',
  initramfs: 'initramfs',
  /** The file of which guest memory is a private mapping; nothing ever writes to it. */
  memory: 'memfile',
  log: logName,
  qmp: 'qmp.sock',
  /** Device state that the machine starts from. */
  snapfile: 'snapfile',
  /** Device state that QEMU writes. */
  savedDevices: 'devices.state',
} as const;

/** The most that device state takes; a machine of ours writes some 12 KiB. */
export const maxDeviceState = 16 * 2 ** 20;

export interface StartFiles {
  kernel: string;
  initramfs: string;
  /** MiB. */
  memoryMb: number;
  /** The image that the guest goes on from; without it, it starts from power-on. */
  state?: VmState | undefined;
}

/** @returns the log, open for appending. @throws when one of the files exists; what it made is removed */
export async function prepareDirectory(dir: string, files: StartFiles): Promise<FileHandle> {
  const { kernel, initramfs, state, memoryMb } = files;
  const log = await createLog(dir);
  const made = makeFiles(dir, {
    [fileNames.kernel]: (path) => linkReadable(kernel, path),
    [fileNames.initramfs]: (path) => linkReadable(initramfs, path),
    [fileNames.memory]: (path) =>
      state ? linkReadable(flatMemoryOf(state.image), path) : makeZeros(path, memoryMb * 2 ** 20),
    ...(state ? { [fileNames.snapfile]: (path: string) => linkReadable(state.devices, path) } : {}),
  });
  try {
    await made;
    return log;
  } catch (error) {
    await log.close();
    await removeFiles(dir, [fileNames.log]);
    throw error;
  }
}

/** Removes what `prepareDirectory` and QEMU made. The monitor must be gone. */
export async function clearDirectory(dir: string): Promise<void> {
  await removeFiles(dir, Object.values(fileNames));
}
