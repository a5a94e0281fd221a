/**
 * The files of a disk in its VM's directory: `base.ext4`, a hard link to the image, so that a monitor which can see
 * only its own directory can open it and the image stays while it is used; `lower-N.qcow2`, links to the layers of
 * the state that it goes on from; `rootfs.qcow2`, the overlay; and above that a `rootfs-N.qcow2` for each time that
 * the disk was captured while the guest ran.
 */
import { link, lstat, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, ifThere } from '@perch/node-kit';
import { DiskGone, type DiskPlace, type DiskSpec } from '../backend.ts';
import { type DiskState, type FileDisk, imageOf, layersOf } from '../disk.ts';
import { assertSealed, unlinkIfThere } from '../sealed.ts';
import { emptyOverlay, maxOverlayBytes } from './header.ts';
import { makeOverlay } from './overlay.ts';

const baseName = 'base.ext4';
const overlayName = 'rootfs.qcow2';
const laterName = (number: number) => `rootfs-${number}.qcow2`;
const lowerName = (index: number) => `lower-${index}.qcow2`;

export async function create(spec: DiskSpec, from: DiskState): Promise<FileDisk> {
  if (from.format !== 'image' && from.format !== 'qcow2') {
    throw new Error(`A qcow2 disk cannot go on from layers of the format ${from.format}`);
  }
  const image = emptyOverlay(spec.sizeBytes, baseName);
  const base = await stat(imageOf(from));
  if (base.size > spec.sizeBytes) {
    throw new RangeError(`The disk (${spec.sizeBytes} bytes) is smaller than its base (${base.size} bytes)`);
  }
  const made: string[] = [];
  const linkIn = async (source: string, name: string) => {
    await linkReadOnly(source, join(spec.dir, name));
    made.push(join(spec.dir, name));
  };
  try {
    await linkIn(imageOf(from), baseName);
    for (const [i, path] of layersOf(from).entries()) await linkIn(path, lowerName(i));
    await makeOverlay(join(spec.dir, overlayName), image, spec.uid);
  } catch (cause) {
    for (const path of made.reverse()) await unlinkIfThere(path);
    throw cause;
  }
  return describe(
    spec,
    layersOf(from).map((_, i) => lowerName(i)),
    [overlayName],
  );
}

/** The monitor runs as another user and must read what lies below without being able to change it. */
async function linkReadOnly(source: string, target: string): Promise<void> {
  await assertSealed(source);
  try {
    await link(source, target);
  } catch (cause) {
    if (!hasCode(cause, 'EXDEV')) throw cause;
    throw new Error(`${source} and ${target} must be on one file system, for hard links`, { cause });
  }
}

export async function isThere({ dir }: Pick<DiskPlace, 'dir'>): Promise<boolean> {
  return (await ifThere(lstat(join(dir, overlayName)))) !== undefined;
}

export async function adopt(spec: DiskSpec): Promise<FileDisk> {
  const { lower, own } = await filesIn(spec.dir);
  const base = await ifThere(lstat(join(spec.dir, baseName)));
  const gone = [
    ...(base ? [] : [baseName]),
    ...lower.map((_, i) => lowerName(i)).filter((name) => !lower.includes(name)),
    ...(own[0] === overlayName ? [] : [overlayName]),
  ];
  if (gone.length > 0) throw new DiskGone(`${gone.join(' and ')} is missing in ${spec.dir}`);
  return describe(spec, lower, own);
}

/** @param own names of the guest's own overlays, of which it writes to the last */
function describe(spec: DiskSpec, lower: readonly string[], own: readonly string[]): FileDisk {
  const layers = [...lower, ...own].map((name) => join(spec.dir, name));
  const below = layers.slice(0, -1).map((path) => ({ path, format: 'qcow2' }) as const);
  return {
    ...overlay(spec, layers.at(-1) ?? ''),
    below: [{ path: join(spec.dir, baseName), format: 'raw' }, ...below],
  };
}

function overlay({ sizeBytes }: Pick<DiskSpec, 'sizeBytes'>, path: string): FileDisk {
  return { kind: 'file', format: 'qcow2', path, below: [], maxFileBytes: maxOverlayBytes(sizeBytes) };
}

/** Makes an empty overlay above those that are there. */
export async function makeNext(spec: DiskSpec): Promise<FileDisk> {
  const { own } = await filesIn(spec.dir);
  const path = join(spec.dir, laterName(numberOf(own.at(-1) ?? overlayName) + 1));
  await makeOverlay(path, emptyOverlay(spec.sizeBytes, baseName), spec.uid);
  return overlay(spec, path);
}

/** Names of layers, each kind from the lowest up: those of the state that it goes on from, and the guest's own. */
export async function filesIn(dir: string): Promise<{ lower: string[]; own: string[] }> {
  const names = await namesIn(dir);
  const sorted = (number: (name: string) => number) =>
    names.filter((name) => !Number.isNaN(number(name))).sort((a, b) => number(a) - number(b));
  return { lower: sorted(indexOf), own: sorted(numberOf) };
}

/** Of a layer of the state that it goes on from; NaN for what is none. */
function indexOf(name: string): number {
  return Number(/^lower-(\d{1,7})\.qcow2$/.exec(name)?.[1]);
}

/** 0 for the first overlay; NaN for what is none. */
function numberOf(name: string): number {
  if (name === overlayName) return 0;
  return Number(/^rootfs-([1-9]\d{0,6})\.qcow2$/.exec(name)?.[1]);
}

async function namesIn(dir: string): Promise<string[]> {
  return (await ifThere(readdir(dir))) ?? [];
}

/** The room that the newest overlay occupies: an empty one has its tables. */
export async function takenBytes({ dir }: DiskPlace): Promise<number> {
  const top = (await filesIn(dir)).own.at(-1);
  if (top === undefined) return 0;
  // A teardown may be removing it.
  const found = await ifThere(lstat(join(dir, top)));
  return (found?.blocks ?? 0) * 512;
}

export async function remove({ dir }: DiskPlace): Promise<void> {
  const { lower, own } = await filesIn(dir);
  for (const name of [baseName, ...lower, ...own]) await unlinkIfThere(join(dir, name));
}
