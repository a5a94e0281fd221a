/**
 * Base devices: an image on a read-only loop device that all disks over it share, and zeros behind it up to the size
 * of the disks. The kernel counts who uses one, and so nobody has to count again after a restart.
 */
import type { BigIntStats } from 'node:fs';
import { hasCode } from '@perch/node-kit';
import {
  attachLoop,
  createDmDevice,
  type DeviceNumber,
  type DmTarget,
  dmNames,
  dmTargets,
  fileOfLoop,
  findDmDevice,
  type LoopDevice,
  removeDmDevice,
} from '../../linux/index.ts';
import { sectorBytes } from './exception-store/index.ts';
import { basePrefix } from './names.ts';

/** An image that is open for reading. */
export interface OpenImage {
  fd: number;
  stat: BigIntStats;
}

/**
 * The device of an image with this size, made where there is none. An image is known by device and inode, whatever
 * its path leads to now.
 *
 * To be used before anything is waited for: until then nobody has it open, and the next `releaseBases` takes it.
 */
export function takeBase(instance: string, image: OpenImage, sizeBytes: number): DeviceNumber {
  const { dev, ino, size } = image.stat;
  const ofImage = `${basePrefix(instance)}${dev}.${ino}.`;
  const sectors = sizeBytes / sectorBytes;
  const name = `${ofImage}${sectors}`;
  const found = findDmDevice(name);
  if (found?.isActive) {
    assertOver(name, image);
    return found.device;
  }
  // One without a table: its maker ended before it had one.
  if (found) removeDmDevice(name);
  const sibling = dmNames().find((one) => one.startsWith(ofImage));
  using loop = sibling === undefined ? attachBase(instance, image) : loopUnder(sibling, image);
  const imageSectors = Number(size) / sectorBytes;
  const targets: DmTarget[] = [
    { start: 0, length: imageSectors, type: 'linear', params: `${loop.device} 0` },
    { start: imageSectors, length: sectors - imageSectors, type: 'zero', params: '' },
  ];
  return createDmDevice(
    name,
    targets.filter(({ length }) => length > 0),
    { readOnly: true },
  );
}

/** Through the page cache, which all disks over the image share then. */
function attachBase(instance: string, { fd }: OpenImage): LoopDevice {
  return attachLoop(fd, { readOnly: true, directIo: false, name: `perch-${instance}-base` });
}

/** The loop device of another size of the same image, which that keeps. */
function loopUnder(name: string, image: OpenImage): LoopDevice {
  return { device: assertOver(name, image), [Symbol.dispose]: () => {} };
}

/** @returns its loop device @throws Error when that has another file than the name says */
function assertOver(name: string, { stat: { dev, ino } }: OpenImage): DeviceNumber {
  const loop = dmTargets(name, 'table')?.[0]?.params.split(' ')[0] as DeviceNumber | undefined;
  const file = loop && fileOfLoop(loop);
  if (loop && file?.dev === dev && file.ino === ino) return loop;
  throw new Error(`The device ${name} is not over its image; remove it: dmsetup remove ${name}`);
}

/** Base devices that no disk is over. */
export function unusedBases(instance: string): string[] {
  const bases = dmNames().filter((name) => name.startsWith(basePrefix(instance)));
  return bases.filter((name) => findDmDevice(name)?.openCount === 0);
}

/** Removes them; the loop device goes with the last. A device that somebody looks at just now stays for the next time. */
export function releaseBases(instance: string): void {
  for (const name of unusedBases(instance)) {
    try {
      removeDmDevice(name);
    } catch (error) {
      if (!hasCode(error, 'EBUSY')) throw error;
    }
  }
}
