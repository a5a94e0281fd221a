/** Loop devices: files as block devices (loop(4), linux/loop.h). */
import { closeSync, constants, openSync, readlinkSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { hasCode, loopControl } from '@perch/node-kit';
import { type DeviceNumber, openBlockDevice } from './device-node.ts';
import { ioctl } from './ffi.ts';

const LOOP_CTL_GET_FREE = 0x4c82;
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_GET_STATUS64 = 0x4c05;

const LO_FLAGS_READ_ONLY = 1;
const LO_FLAGS_AUTOCLEAR = 4;
const LO_FLAGS_DIRECT_IO = 16;

/** struct loop_info64 */
const info = { device: 0, inode: 8, flags: 52, fileName: 56, fileNameBytes: 64, bytes: 232 } as const;
/** struct loop_config: descriptor, block size, loop_info64, and eight words that mean nothing yet. */
const config = { fd: 0, info: 8, bytes: 8 + info.bytes + 8 * 8 } as const;

/** A number that was free may be taken before it is used; so often it is asked for another. */
const attempts = 64;

/** A file as stat(2) tells it with `bigint`. */
export interface FileIdentity {
  dev: bigint;
  ino: bigint;
}

export interface LoopOptions {
  readOnly: boolean;
  /** Whether data pass by the page cache, where the file system lets them. */
  directIo: boolean;
  /** Shown by losetup(8): what it is for. */
  name: string;
}

/** A loop device that goes with its last user, and so at the end of its scope when nobody else has opened it. */
export interface LoopDevice extends Disposable {
  device: DeviceNumber;
}

/**
 * Makes a block device of an open file.
 *
 * Privileged: what is written to the device is written to the file, whoever opened that.
 * @throws SystemCallError
 */
export function attachLoop(file: number, options: LoopOptions): LoopDevice {
  const control = openSync(loopControl, constants.O_RDWR);
  try {
    for (let attempt = 1; ; attempt++) {
      const number = ioctl('LOOP_CTL_GET_FREE', control, LOOP_CTL_GET_FREE, 0);
      const { fd, device } = openBlockDevice(`/dev/loop${number}`, constants.O_RDWR);
      try {
        ioctl('LOOP_CONFIGURE', fd, LOOP_CONFIGURE, configuration(file, options));
        return { device, [Symbol.dispose]: () => closeSync(fd) };
      } catch (error) {
        closeSync(fd);
        if (!hasCode(error, 'EBUSY') || attempt === attempts) throw error;
      }
    }
  } finally {
    closeSync(control);
  }
}

function configuration(file: number, { readOnly, directIo, name }: LoopOptions): Buffer {
  const bytes = Buffer.alloc(config.bytes);
  bytes.writeUInt32LE(file, config.fd);
  const flags =
    LO_FLAGS_AUTOCLEAR | (readOnly ? LO_FLAGS_READ_ONLY : 0) | (directIo ? LO_FLAGS_DIRECT_IO : 0);
  bytes.writeUInt32LE(flags, config.info + info.flags);
  bytes.write(name, config.info + info.fileName, info.fileNameBytes - 1, 'latin1');
  return bytes;
}

/**
 * Has nobody who writes to the device wait until its file is on the disk: a power cut may lose what was written until
 * the file is synced. To be called before something else is put on the device.
 */
export function setWriteThrough(device: DeviceNumber): void {
  writeFileSync(writeCacheOf(device), 'write through');
}

/** Takes that back. The number of a loop device keeps it otherwise, for whoever has it next. */
export function setWriteBack(device: DeviceNumber): void {
  writeFileSync(writeCacheOf(device), 'write back');
}

const writeCacheOf = (device: DeviceNumber) => `/sys/dev/block/${device}/queue/write_cache`;

/** The file behind a loop device. @returns undefined when it is none, or has no file */
export function fileOfLoop(device: DeviceNumber): FileIdentity | undefined {
  const name = nameOf(device);
  if (name === undefined || !/^loop\d+$/.test(name)) return undefined;
  const opened = openBlockDevice(`/dev/${name}`, constants.O_RDONLY);
  try {
    if (opened.device !== device) throw new Error(`/dev/${name} is ${opened.device}, not ${device}`);
    const status = Buffer.alloc(info.bytes);
    ioctl('LOOP_GET_STATUS64', opened.fd, LOOP_GET_STATUS64, status);
    return { dev: status.readBigUInt64LE(info.device), ino: status.readBigUInt64LE(info.inode) };
  } catch (error) {
    if (!hasCode(error, 'ENXIO')) throw error;
    return undefined;
  } finally {
    closeSync(opened.fd);
  }
}

/** As the kernel calls it. */
function nameOf(device: DeviceNumber): string | undefined {
  try {
    return basename(readlinkSync(`/sys/dev/block/${device}`));
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
    return undefined;
  }
}
