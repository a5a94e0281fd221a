/** All of a guest's memory in one file that a VM monitor can map, made of the blocks of its memfiles: nothing is copied. */
import { open, rm } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { cloneFile, cloneRange, dataRuns, punchHole } from '../linux/index.ts';
import type { BuildId } from './build-id.ts';
import type { MappingEntry } from './mapping.ts';
import { flatMemoryOf, type MemoryImage } from './memory-image.ts';

/** Each is a call that holds up this thread. */
const entriesPerTurn = 128;

/**
 * The flat memfile is cloned, and what differs from it laid over the clone.
 * @param path of the file, on the file system of the memfiles; there must be none
 * @returns false, and there is no file, where the file system has no reflinks, or none of pages
 */
export async function composeMemory(image: MemoryImage, path: string): Promise<boolean> {
  const { baseBuild, mapping } = image.header;
  await using files = new AsyncDisposableStack();
  const flat = files.use(await open(flatMemoryOf(image)));
  const opened = new Map<BuildId, number>();
  for (const owner of mapping.builds) {
    if (owner !== baseBuild) opened.set(owner, files.use(await open(image.memfileOf(owner))).fd);
  }
  const to = files.use(await open(path, 'wx+', 0o600));
  let isDone = false;
  try {
    isDone = cloneFile(flat.fd, to.fd);
    let count = 0;
    for (const entry of mapping) {
      if (!isDone) break;
      if (entry.build === baseBuild) continue;
      if (entry.build === null) clear(flat.fd, to.fd, entry);
      else isDone = lay(opened.get(entry.build) as number, to.fd, entry);
      if (++count % entriesPerTurn === 0) await turn();
    }
    return isDone;
  } finally {
    if (!isDone) await rm(path);
  }
}

function lay(from: number, to: number, { offset, length, storageOffset }: MappingEntry): boolean {
  return cloneRange(from, to, { fromOffset: storageOffset, length, toOffset: offset });
}

/** Zeros over what the flat memfile has; its holes are zeros already. */
function clear(flat: number, to: number, { offset, length }: MappingEntry): void {
  for (const run of dataRuns(flat, offset, offset + length)) punchHole(to, run.offset, run.length);
}
