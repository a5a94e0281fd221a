/** The device of one disk: a snapshot of a base device, with the store of what its guest writes on a loop device. */
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '@perch/node-kit';
import { failpoint } from '../../failpoints/index.ts';
import {
  attachLoop,
  createDmDevice,
  type DeviceNumber,
  dmTargets,
  type FileIdentity,
  fileOfLoop,
  findDmDevice,
  removeDmDevice,
  setWriteBack,
  setWriteThrough,
} from '../../linux/index.ts';
import { type OpenImage, takeBase } from './bases.ts';
import { sectorBytes } from './exception-store/index.ts';

/** How long a monitor that has ended may still have the device open. */
const patienceMs = 3000;
const lookAgainMs = 20;

export interface SnapshotParts {
  instance: string;
  name: string;
  image: OpenImage;
  /** Descriptor of the store, open for reading and writing. */
  store: number;
  sizeBytes: number;
}

/**
 * Makes it in one go, without waiting for anything, and in the order of who holds whom: when it is made it holds the
 * loop device of its store and its base device, and when this process ends before that all of them go.
 *
 * - `PO`: the exceptions are on the disk, and a store that is full says so without being lost. It never is: it has
 *   room for the whole disk.
 * - `8`: chunks of 4096 bytes, as the guest's file system has.
 * - `discard_zeroes_cow`: what a guest discards gives its room back.
 */
export function makeSnapshotDevice({ instance, name, image, store, sizeBytes }: SnapshotParts): DeviceNumber {
  if (findDmDevice(name)) {
    throw new Error(
      `There is a device ${name} already, which belongs to nobody; remove it: dmsetup remove ${name}`,
    );
  }
  const base = takeBase(instance, image, sizeBytes);
  failpoint('disk.base');
  // Past the page cache: a clone of the store would have to write that back while the guest stands still.
  using cow = attachLoop(store, { readOnly: false, directIo: true, name });
  // A disk of which a power cut leaves half belongs to a VM that the same power cut ended. States are synced.
  setWriteThrough(cow.device);
  const params = `${base} ${cow.device} PO 8 1 discard_zeroes_cow`;
  const length = sizeBytes / sectorBytes;
  try {
    return createDmDevice(name, [{ start: 0, length, type: 'snapshot', params }], { readOnly: false });
  } catch (error) {
    setWriteBack(cow.device);
    throw error;
  }
}

export interface FoundSnapshot {
  /** The file of its store. Undefined when the loop device has lost it. */
  store: FileIdentity | undefined;
  /** Bytes of the store up to where the kernel goes on. Undefined when the kernel has given up the store. */
  usedBytes: number | undefined;
  /** The kernel's words on it, for people. */
  state: string;
}

/** @returns undefined when there is no such device, or one of another kind */
export function findSnapshotDevice(name: string): FoundSnapshot | undefined {
  const table = dmTargets(name, 'table')?.[0];
  const state = dmTargets(name, 'state')?.[0];
  if (table?.type !== 'snapshot' || !state) return undefined;
  const cow = table.params.split(' ')[1] as DeviceNumber;
  const used = /^(\d+)\/\d+ \d+$/.exec(state.params)?.[1];
  return {
    store: fileOfLoop(cow),
    usedBytes: used === undefined ? undefined : Number(used) * sectorBytes,
    state: state.params,
  };
}

/** No error when there is none. @throws Error when somebody has it open for longer than an end takes */
export async function removeSnapshotDevice(name: string): Promise<void> {
  const deadline = performance.now() + patienceMs;
  // The loop device goes with this one. Nobody writes any more, so from here on it may as well take its time.
  const table = dmTargets(name, 'table')?.[0];
  if (table?.type === 'snapshot') setWriteBack(table.params.split(' ')[1] as DeviceNumber);
  for (;;) {
    try {
      removeDmDevice(name);
      return;
    } catch (cause) {
      if (!hasCode(cause, 'EBUSY')) throw cause;
      if (performance.now() < deadline) await sleep(lookAgainMs);
      else throw new Error(`The device ${name} is still open after ${patienceMs / 1000} s.`, { cause });
    }
  }
}
