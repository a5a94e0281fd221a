/**
 * Copy-on-write disks as qcow2 overlays.
 *
 * The VM's directory gets `base.ext4`, a hard link to the base, so that a monitor which can see only its own
 * directory can open it and the base outlives its template; `lower-N.qcow2`, links to the layers of snapshots
 * that it goes on from; `rootfs.qcow2`, the overlay; and above that a `rootfs-N.qcow2` for each time that a
 * snapshot was taken while the guest ran.
 */
import { constants } from 'node:fs';
import { link, lstat, open, readdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Disk, DiskLayer, DiskSpec, LayerFile } from '../disk-layer.ts';
import { flatten } from './flatten.ts';
import { emptyOverlay, maxOverlayBytes } from './header.ts';
import { merge } from './merge.ts';
import { makeOverlay, seal, unlinkIfThere } from './overlay.ts';

const baseName = 'base.ext4';
const overlayName = 'rootfs.qcow2';
const laterName = (number: number) => `rootfs-${number}.qcow2`;
const lowerName = (index: number) => `lower-${index}.qcow2`;
const isLower = (name: string) => /^lower-\d+\.qcow2$/.test(name);

/**
 * Layers of one disk. What QEMU needs to open them grows with the square of their number: 8 cost nothing, 64 a fifth
 * of a second, 128 a second.
 */
export const maxLayers = 128;

/** What all layers may occupy before they get another, in sizes of the disk: one life adds at most one. */
export const maxSizes = 2;

export function createQcow2Layer(): DiskLayer {
  return {
    kind: 'qcow2',
    create,
    open: openLayer,
    base: basePath,
    add,
    fullBy,
    layers,
    writtenBytes,
    capture,
    seal,
    flatten,
    merge,
    remove,
  };
}

async function create(spec: DiskSpec): Promise<Disk> {
  const lower = spec.lower ?? [];
  const image = emptyOverlay(spec.sizeBytes, baseName);
  const base = await stat(spec.base);
  if (base.size > spec.sizeBytes) {
    throw new RangeError(`The disk (${spec.sizeBytes} bytes) is smaller than its base (${base.size} bytes)`);
  }
  const made: string[] = [];
  const linkIn = async (source: string, name: string) => {
    await linkReadOnly(source, join(spec.dir, name));
    made.push(join(spec.dir, name));
  };
  try {
    await linkIn(spec.base, baseName);
    for (const [i, path] of lower.entries()) await linkIn(path, lowerName(i));
    await makeOverlay(join(spec.dir, overlayName), image, spec.uid);
  } catch (cause) {
    for (const path of made.reverse()) await unlinkIfThere(path);
    throw cause;
  }
  return describe(spec);
}

/** The monitor runs as another user and must read what lies below without being able to change it. */
async function linkReadOnly(source: string, target: string): Promise<void> {
  const { mode } = await stat(source);
  if ((mode & 0o777) !== 0o444) {
    throw new Error(`${source}, below other layers, has mode ${(mode & 0o777).toString(8)}, not 444`);
  }
  try {
    await link(source, target);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EXDEV') throw cause;
    throw new Error(`${source} and ${target} must be on one file system, for hard links`, { cause });
  }
}

async function openLayer(spec: DiskSpec): Promise<Disk> {
  const disk = describe(spec);
  await Promise.all([disk.path, join(spec.dir, baseName), ...disk.lower].map((path) => lstat(path)));
  return disk;
}

function basePath(dir: string): string {
  return join(dir, baseName);
}

/** @throws Error when the disk has all the layers that one may have */
async function add(spec: Pick<DiskSpec, 'dir' | 'uid' | 'sizeBytes'>): Promise<string> {
  const names = await namesIn(spec.dir);
  const layers = names.filter((name) => isLower(name) || !Number.isNaN(numberOf(name)));
  const full = await fullBy(
    layers.map((name) => join(spec.dir, name)),
    spec.sizeBytes,
  );
  if (full !== undefined) {
    throw new Error(
      `Its disk ${full}, and cannot get more while it runs: they are merged once it is paused.`,
    );
  }
  const last = numberOf((await overlayNames(spec.dir)).at(-1) ?? overlayName);
  const path = join(spec.dir, laterName(last + 1));
  await makeOverlay(path, emptyOverlay(spec.sizeBytes, baseName), spec.uid);
  return path;
}

async function fullBy(layers: readonly string[], sizeBytes: number): Promise<string | undefined> {
  if (layers.length >= maxLayers) return `has ${layers.length} layers`;
  const stats = await Promise.all(layers.map((path) => lstat(path)));
  const bytes = stats.reduce((sum, { blocks }) => sum + blocks * 512, 0);
  if (bytes <= maxSizes * sizeBytes) return undefined;
  return `has layers of ${Math.ceil(bytes / 2 ** 20)} MiB, more than ${maxSizes} times its size`;
}

async function layers({ dir }: Pick<DiskSpec, 'dir'>): Promise<LayerFile[]> {
  const paths = (await overlayNames(dir)).map((name) => join(dir, name));
  return Promise.all(paths.map(async (path) => ({ path, inode: (await lstat(path)).ino })));
}

async function writtenBytes({ dir }: Pick<DiskSpec, 'dir'>): Promise<number> {
  const top = (await overlayNames(dir)).at(-1);
  if (top === undefined) return 0;
  // A teardown may be removing it.
  const found = await lstat(join(dir, top)).catch(undefinedIfMissing);
  return (found?.blocks ?? 0) * 512;
}

/** Overlays of the guest's own, in the order in which they were made. */
async function overlayNames(dir: string): Promise<string[]> {
  const names = await namesIn(dir);
  return names.filter((name) => !Number.isNaN(numberOf(name))).sort((a, b) => numberOf(a) - numberOf(b));
}

/** 0 for the first overlay; NaN for what is none. */
function numberOf(name: string): number {
  if (name === overlayName) return 0;
  return Number(/^rootfs-([1-9]\d{0,6})\.qcow2$/.exec(name)?.[1]);
}

async function namesIn(dir: string): Promise<string[]> {
  return (await readdir(dir).catch(undefinedIfMissing)) ?? [];
}

function undefinedIfMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

async function capture({ uid }: Pick<DiskSpec, 'uid'>, path: string, target: string): Promise<void> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = await file.stat();
    // One that was captured before, for a copy that its sandbox does not go on from.
    const sealed = stat.uid === process.getuid?.() && (stat.mode & 0o777) === 0o444;
    const asMade = stat.uid === uid && stat.nlink === 1;
    if (!stat.isFile() || !(sealed || asMade)) {
      throw new Error('The copy-on-write layer is not the file that was made for the guest');
    }
    await file.sync();
    await link(path, target);
    if ((await lstat(target)).ino !== stat.ino) {
      await unlink(target);
      throw new Error('The copy-on-write layer was changed for another file');
    }
  } finally {
    await file.close();
  }
}

function describe(spec: DiskSpec): Disk {
  return {
    path: join(spec.dir, overlayName),
    format: 'qcow2',
    base: join(spec.dir, baseName),
    lower: (spec.lower ?? []).map((_, i) => join(spec.dir, lowerName(i))),
    maxFileBytes: maxOverlayBytes(spec.sizeBytes),
  };
}

async function remove(spec: Pick<DiskSpec, 'dir'>): Promise<void> {
  for (const name of await namesIn(spec.dir)) {
    const ours = name === baseName || isLower(name) || !Number.isNaN(numberOf(name));
    if (ours) await unlinkIfThere(join(spec.dir, name));
  }
}
