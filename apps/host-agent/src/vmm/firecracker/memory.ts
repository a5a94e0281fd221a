/** The memory that a guest goes on from, as the one file that Firecracker maps. */
import { readSync } from 'node:fs';
import { chmod, lstat, open } from 'node:fs/promises';
import { join } from 'node:path';
import { ifThere } from '@perch/node-kit';
import {
  type BuildId,
  composeMemory,
  copyMapped,
  flatMemoryOf,
  type MemoryImage,
  type ReadMemfile,
  readableByVms,
} from '../../snapshot/index.ts';
import { linkReadable } from '../process/index.ts';
import { type Jail, jailed, jailRoot } from './jail.ts';
import type { MemoryWay } from './memory-way.ts';

/** @throws when it cannot be done, and a part may be left */
export async function placeMemory(
  jail: Jail,
  image: MemoryImage,
  way: Exclude<MemoryWay, 'paged'>,
): Promise<void> {
  const path = join(jailRoot(jail), jailed.memory);
  if (way === 'mapped') return await linkReadable(flatMemoryOf(image), path);
  if (way === 'copied') await copyWhole(image, path);
  else if (!(await composeMemory(image, path)))
    throw new Error('the memfiles cannot be put together: the file system of the data has no reflinks');
  await chmod(path, readableByVms);
}

/** Bytes that a copy of the memory has taken, 0 where there is none. */
export async function copiedBytes(jail: Jail): Promise<number> {
  const found = await ifThere(lstat(join(jailRoot(jail), jailed.memory)));
  // One that others have too is a link.
  return found?.nlink === 1 ? found.blocks * 512 : 0;
}

async function copyWhole(
  { header: { build, mapping }, memfileOf }: MemoryImage,
  path: string,
): Promise<void> {
  await using files = new AsyncDisposableStack();
  const opened = new Map<BuildId, number>();
  for (const owner of mapping.builds) opened.set(owner, files.use(await open(memfileOf(owner))).fd);
  const read: ReadMemfile = (owner, into, position) =>
    readSync(opened.get(owner) as number, into, 0, into.length, position);
  await copyMapped(mapping, read, build, path);
}
