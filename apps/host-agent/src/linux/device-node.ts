/** Devices by their numbers, and nodes that lead to them (makedev(3), mknod(2)). */
import { chownSync, closeSync, constants, fstatSync, openSync, rmSync } from 'node:fs';
import { hasCode } from '@perch/node-kit';
import koffi from 'koffi';
import { SystemCallError } from './ffi.ts';

const libc = koffi.load('libc.so.6');
const mknod = libc.func('int mknod(const char *path, unsigned int mode, uint64_t dev)');

/** A block device as `7:0`: the two numbers that the kernel knows it by. */
export type DeviceNumber = `${number}:${number}`;

/** As stat(2) tells it: gnu_dev_makedev of glibc, which is also what the kernel has in 64 bits. */
export function makeDevice(major: bigint, minor: bigint): bigint {
  return ((major & 0xfffn) << 8n) | ((major & ~0xfffn) << 32n) | (minor & 0xffn) | ((minor & ~0xffn) << 12n);
}

/** The other way. */
export function numberOfDevice(dev: bigint): DeviceNumber {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn & 0xffff_ffffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffff_ff00n);
  return `${Number(major)}:${Number(minor)}`;
}

/**
 * Makes a node that only `uid` can open.
 *
 * Privileged: whoever opens the node gets the device; callers name devices that they have made for that user.
 * @throws SystemCallError; Error where the file system opens no devices
 */
export function makeBlockNode(path: string, device: DeviceNumber, uid: number): void {
  const [major = '', minor = ''] = device.split(':');
  if (mknod(path, constants.S_IFBLK | 0o600, makeDevice(BigInt(major), BigInt(minor))) < 0) {
    throw new SystemCallError('mknod', koffi.errno());
  }
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW));
    chownSync(path, uid, uid);
  } catch (cause) {
    rmSync(path);
    if (!hasCode(cause, 'EACCES')) throw cause;
    throw new Error(`${path} cannot be opened: its file system is mounted with nodev; mount it without.`, {
      cause,
    });
  }
}

/** Makes a FIFO that only root can open by its name. @throws SystemCallError EEXIST */
export function makeFifo(path: string): void {
  if (mknod(path, constants.S_IFIFO | 0o600, 0n) < 0) throw new SystemCallError('mknod', koffi.errno());
}

/**
 * Opens a block device at its usual place, if that is the device and not a file that somebody left there.
 * @param flags of open(2)
 */
export function openBlockDevice(path: string, flags: number): { fd: number; device: DeviceNumber } {
  const fd = openSync(path, flags | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  const stat = fstatSync(fd, { bigint: true });
  if (stat.isBlockDevice()) return { fd, device: numberOfDevice(stat.rdev) };
  closeSync(fd);
  throw new Error(`${path} is no block device; remove it, and load its driver again.`);
}
