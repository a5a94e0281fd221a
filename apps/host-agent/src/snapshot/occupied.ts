/**
 * The room that directories occupy on the disk: sparse files count as what they are, files of several names and
 * blocks of several files once.
 */
import { constants, type Stats } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '@perch/node-kit';
import { type Blocks, sharedBlocks } from '../linux/index.ts';

export interface Occupied {
  /** Bytes that go when the directories go. */
  ownBytes: number;
  /** Bytes of files that have another name elsewhere, and of blocks that another file has too: they stay. */
  sharedBytes: number;
}

interface Entry {
  path: string;
  stat: Stats;
  /** How many of its names have been met. */
  names: number;
}

/**
 * Of all directories together: a file counts once, and is their own when all its names are in them.
 * @param roots below them lies every file that may share blocks with these; without it a block that two files share
 *   is not their own, even where they have both
 */
export async function occupiedBy(
  directories: readonly string[],
  roots?: readonly string[],
): Promise<Occupied> {
  const files = await filesIn(directories);
  let [ownBytes, sharedBytes] = [0, 0];
  const ours: Blocks[] = [];
  const others: Blocks[] = [];
  for (const { path, stat, names } of files.values()) {
    const blocks = await blocksShared(path);
    const rest = Math.max(0, stat.blocks * 512 - sum(blocks));
    const elsewhere = stat.nlink > names;
    if (elsewhere) sharedBytes += rest;
    else ownBytes += rest;
    for (const part of blocks) {
      ours.push(part);
      if (elsewhere || !roots) others.push(part);
    }
  }
  if (ours.length === 0) return { ownBytes, sharedBytes };
  for (const root of roots ?? []) for await (const part of blocksBelow(root, files)) others.push(part);
  const all = lengthOf(ours);
  const also = all + lengthOf(others) - lengthOf([...ours, ...others]);
  return { ownBytes: ownBytes + all - also, sharedBytes: sharedBytes + also };
}

const keyOf = ({ dev, ino }: Stats) => `${dev}:${ino}`;

async function filesIn(directories: readonly string[]): Promise<Map<string, Entry>> {
  const files = new Map<string, Entry>();
  for (const directory of directories) {
    for (const [name, stat] of await regularFiles(directory)) {
      const key = keyOf(stat);
      files.set(key, { path: join(directory, name), stat, names: (files.get(key)?.names ?? 0) + 1 });
    }
  }
  return files;
}

/** Of all files below a directory but the given ones. */
async function* blocksBelow(directory: string, but: ReadonlyMap<string, Entry>): AsyncGenerator<Blocks> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(noneIfMissing([]));
  for (const entry of entries) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* blocksBelow(path, but);
    else if (entry.isFile()) yield* await blocksShared(path, but);
  }
}

/** None of what is no file, and of the files of `but`. */
async function blocksShared(path: string, but?: ReadonlyMap<string, Entry>): Promise<Blocks[]> {
  // A monitor may put something else in its directory.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  await using file = await open(path, flags).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO')) return null;
    throw error;
  });
  const stat = await file?.stat();
  return file && stat?.isFile() && !but?.has(keyOf(stat)) ? await sharedBlocks(file.fd) : [];
}

const sum = (blocks: readonly Blocks[]) => blocks.reduce((bytes, { length }) => bytes + length, 0);

/** Bytes that they cover, each once. */
function lengthOf(blocks: readonly Blocks[]): number {
  let [bytes, end] = [0, 0];
  for (const { at, length } of blocks.toSorted((a, b) => a.at - b.at)) {
    bytes += Math.max(0, at + length - Math.max(at, end));
    end = Math.max(end, at + length);
  }
  return bytes;
}

/** By name; none when there is no directory. */
export async function regularFiles(directory: string): Promise<Map<string, Stats>> {
  const names = await readdir(directory).catch(noneIfMissing([]));
  const stats = await Promise.all(
    names.map(async (name) => ({
      name,
      stat: await lstat(join(directory, name)).catch(noneIfMissing(null)),
    })),
  );
  return new Map(stats.flatMap(({ name, stat }) => (stat?.isFile() ? [[name, stat]] : [])));
}

/** Errors of a directory that another is removing. */
function noneIfMissing<T>(none: T): (error: unknown) => T {
  return (error) => {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return none;
    throw error;
  };
}
