/**
 * The disk of a VM: `rootfs.cow` in its directory, the store, which is root's; the device over it; and `rootfs`, a node
 * for its monitor that leads to the device.
 */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ifThere } from '@perch/node-kit';
import { failpoint } from '../../failpoints/index.ts';
import { dmNames, findDmDevice, isDmLoaded, type Leftover, makeBlockNode } from '../../linux/index.ts';
import { DiskGone, type DiskPlace, type DiskSpec } from '../backend.ts';
import { type BlockDisk, type DiskState, imageOf } from '../disk.ts';
import { assertSealed } from '../sealed.ts';
import { type OpenImage, releaseBases, unusedBases } from './bases.ts';
import { sectorBytes } from './exception-store/index.ts';
import { basePrefix, prefixOf, vmDevice } from './names.ts';
import {
  type FoundSnapshot,
  findSnapshotDevice,
  makeSnapshotDevice,
  removeSnapshotDevice,
} from './snapshot-device.ts';
import { makeStore } from './store.ts';

const nodeName = 'rootfs';
const storeName = 'rootfs.cow';
/** The clone of a capture that has given it no name yet. */
const capturedName = 'captured.cow';

export const storePath = (dir: string) => join(dir, storeName);
export const capturedPath = (dir: string) => join(dir, capturedName);

export async function create(instance: string, spec: DiskSpec, from: DiskState): Promise<BlockDisk> {
  const { id, dir, uid, sizeBytes } = spec;
  if (from.format !== 'image' && from.format !== 'dm-snapshot') {
    throw new Error(`A device-mapper disk cannot go on from layers of the format ${from.format}`);
  }
  await assertSealed(imageOf(from));
  await using file = await open(imageOf(from), constants.O_RDONLY | constants.O_NOFOLLOW);
  const image: OpenImage = { fd: file.fd, stat: await file.stat({ bigint: true }) };
  assertFits(Number(image.stat.size), sizeBytes);
  await using store = await makeStore(storePath(dir), from, sizeBytes);
  failpoint('disk.store');
  const path = join(dir, nodeName);
  const name = vmDevice(instance, id);
  try {
    const device = makeSnapshotDevice({ instance, name, image, store: store.fd, sizeBytes });
    failpoint('disk.device');
    try {
      makeBlockNode(path, device, uid);
    } catch (cause) {
      await removeSnapshotDevice(name);
      throw cause;
    }
  } catch (cause) {
    releaseBases(instance);
    await rm(storePath(dir));
    throw cause;
  }
  return { kind: 'block', path };
}

function assertFits(imageBytes: number, sizeBytes: number): void {
  if (imageBytes > sizeBytes) {
    throw new RangeError(`The disk (${sizeBytes} bytes) is smaller than its base (${imageBytes} bytes)`);
  }
  // A loop device has whole sectors: it would lose the rest.
  if (imageBytes % sectorBytes === 0) return;
  throw new RangeError(`The base has ${imageBytes} bytes, which are not whole sectors of ${sectorBytes}`);
}

export async function adopt(instance: string, spec: DiskSpec): Promise<BlockDisk> {
  const opened = await openStore(instance, spec);
  await opened.store.close();
  // It shares blocks with the store, of which the kernel may need its own at any time.
  await rm(capturedPath(spec.dir), { recursive: true, force: true });
  return { kind: 'block', path: join(spec.dir, nodeName) };
}

/**
 * The store of a disk that is in use.
 * @throws DiskGone when the device or the file is not there, or the kernel has given it up
 */
export async function openStore(
  instance: string,
  { id, dir }: DiskPlace,
): Promise<{ store: FileHandle; usedBytes: number }> {
  const name = vmDevice(instance, id);
  const found = expectDevice(name);
  const path = storePath(dir);
  // The directory is the monitor's, which may put something else there.
  const flags = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const store = await ifThere(open(path, flags));
  if (store && (await isStoreOf(found, store))) return { store, usedBytes: found.usedBytes };
  await store?.close();
  throw new DiskGone(`${path} is not the file that the device ${name} writes to`);
}

/** @throws DiskGone when it is not there, or the kernel has given its store up */
function expectDevice(name: string): FoundSnapshot & { usedBytes: number } {
  const found = findSnapshotDevice(name);
  if (!found) throw new DiskGone(`there is no device ${name}`);
  const { usedBytes, state } = found;
  if (usedBytes !== undefined) return { ...found, usedBytes };
  throw new DiskGone(`the kernel could not write to its copy-on-write store and has given it up: ${state}`);
}

export function lossOf(instance: string, { id }: DiskPlace): DiskGone | undefined {
  try {
    expectDevice(vmDevice(instance, id));
    return undefined;
  } catch (error) {
    if (error instanceof DiskGone) return error;
    throw error;
  }
}

/** Bytes of its store up to where the kernel goes on; 0 of one that is not there. */
export function usedBytes(instance: string, { id }: DiskPlace): number {
  return findSnapshotDevice(vmDevice(instance, id))?.usedBytes ?? 0;
}

async function isStoreOf(found: FoundSnapshot, store: FileHandle): Promise<boolean> {
  const { dev, ino } = await store.stat({ bigint: true });
  return found.store?.dev === dev && found.store.ino === ino;
}

/** Loads no module of the kernel. */
export function hasDevice(instance: string, { id }: Pick<DiskPlace, 'id'>): boolean {
  return isDmLoaded() && findDmDevice(vmDevice(instance, id)) !== undefined;
}

export async function hasStore({ dir }: Pick<DiskPlace, 'dir'>): Promise<boolean> {
  return (await ifThere(lstat(storePath(dir)))) !== undefined;
}

export async function remove(instance: string, { id, dir }: DiskPlace): Promise<void> {
  await removeDevice(instance, vmDevice(instance, id));
  for (const path of [join(dir, nodeName), storePath(dir), capturedPath(dir)]) {
    await rm(path, { recursive: true, force: true });
  }
}

async function removeDevice(instance: string, name: string): Promise<void> {
  await removeSnapshotDevice(name);
  releaseBases(instance);
}

export async function unowned(instance: string, owned: () => ReadonlySet<string>): Promise<Leftover[]> {
  const prefix = prefixOf(instance);
  const disks = dmNames().filter((name) => name.startsWith(prefix) && !name.startsWith(basePrefix(instance)));
  const bases = unusedBases(instance);
  const known = owned();
  return [...disks.filter((name) => !known.has(name.slice(prefix.length))), ...bases].map((name) => ({
    what: `the disk device ${name}`,
    remove: () => removeDevice(instance, name),
  }));
}

/** Bytes of the host that the store has: all of its room is taken from the beginning. */
export async function storeBytes({ dir }: DiskPlace): Promise<number> {
  // A teardown may be removing it.
  const found = await ifThere(lstat(storePath(dir)));
  return (found?.blocks ?? 0) * 512;
}
