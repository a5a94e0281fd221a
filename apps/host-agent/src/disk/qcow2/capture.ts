/**
 * Captures a disk: the overlays of the guest get second names. Of a guest that runs on, the monitor goes on with an
 * empty overlay above them.
 */
import { constants } from 'node:fs';
import { lstat, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiskCapture, DiskSpec, DiskUser } from '../backend.ts';
import { type DiskState, imageOf, layersOf } from '../disk.ts';
import { linkOpen, seal } from '../sealed.ts';
import { fullBy } from './bounds.ts';
import { filesIn, makeNext } from './vm-files.ts';

/** @throws Error when the disk has all the layers that one may have */
export async function prepareCapture(spec: DiskSpec, runsOn: DiskUser | undefined): Promise<DiskCapture> {
  if (!runsOn) {
    const holdStill = () => Promise.reject(new Error('The guest was to stay stopped'));
    return { holdStill, write: (parent, nameOf) => write(spec, undefined, parent, nameOf) };
  }
  const { lower, own } = await filesIn(spec.dir);
  const full = await fullBy(
    [...lower, ...own].map((name) => join(spec.dir, name)),
    spec.sizeBytes,
  );
  if (full !== undefined) {
    throw new Error(
      `Its disk ${full}, and cannot get more while it runs: they are merged once it is paused.`,
    );
  }
  const next = await makeNext(spec);
  const holdStill = await runsOn.prepareSwitch(next);
  return { holdStill, write: (parent, nameOf) => write(spec, next.path, parent, nameOf) };
}

/**
 * The guest's writes since its parent: one layer, or more when the disk was captured while it ran.
 * @param next the layer that it writes to now, when it runs on
 */
async function write(
  { dir, uid }: DiskSpec,
  next: string | undefined,
  parent: DiskState,
  nameOf: (place: 'below' | 'uppermost') => string,
): Promise<DiskState> {
  const inherited = layersOf(parent);
  const known = new Set(await Promise.all(inherited.map(inodeOf)));
  const own: string[] = [];
  for (const path of (await filesIn(dir)).own.map((name) => join(dir, name))) {
    if (path !== next && !known.has(await inodeOf(path))) own.push(path);
  }
  const layers = [...inherited];
  for (const [i, path] of own.entries()) {
    const isUppermost = i === own.length - 1;
    const target = nameOf(isUppermost ? 'uppermost' : 'below');
    await giveName(path, uid, target);
    // The monitor of a guest that is paused may still write to it: it is sealed when that has ended.
    if (next !== undefined || !isUppermost) await seal(target);
    layers.push(target);
  }
  return { format: 'qcow2', base: imageOf(parent), layers };
}

async function inodeOf(path: string): Promise<number> {
  return (await lstat(path)).ino;
}

/** Puts a layer, as it is now, on disk and gives it a second name. Its directory is the monitor's. */
async function giveName(path: string, uid: number, target: string): Promise<void> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  const stat = await file.stat();
  // A layer that was captured before, for a copy that its sandbox does not go on from.
  const sealed = stat.uid === process.getuid?.() && (stat.mode & 0o777) === 0o444;
  const asMade = stat.uid === uid && stat.nlink === 1;
  if (!stat.isFile() || !(sealed || asMade)) {
    throw new Error('The copy-on-write layer is not the file that was made for the guest');
  }
  await file.sync();
  await linkOpen(file, path, target);
}
