/** The room that directories occupy on the disk, told by blocks and hard links: sparse files count as what they are. */
import type { Stats } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '@perch/node-kit';

export interface Occupied {
  /** Bytes that go when the directories go. */
  ownBytes: number;
  /** Bytes of files that have another name elsewhere, and stay. */
  sharedBytes: number;
}

/** Of all directories together: a file counts once, and is their own when all its names are in them. */
export async function occupiedBy(directories: readonly string[]): Promise<Occupied> {
  const files = new Map<string, { stat: Stats; names: number }>();
  for (const directory of directories) {
    for (const stat of (await regularFiles(directory)).values()) {
      const key = `${stat.dev}:${stat.ino}`;
      files.set(key, { stat, names: (files.get(key)?.names ?? 0) + 1 });
    }
  }
  const total = { ownBytes: 0, sharedBytes: 0 };
  for (const { stat, names } of files.values()) {
    total[stat.nlink > names ? 'sharedBytes' : 'ownBytes'] += stat.blocks * 512;
  }
  return total;
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
