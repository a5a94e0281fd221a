/** All of a guest's memory in one file that a VM monitor can map, whichever memfiles its pages are in. */
import { readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { BuildId } from './build-id.ts';
import type { Pace } from './checksum.ts';
import { SnapshotDamaged } from './damaged.ts';
import { snapshotFiles } from './layout.ts';
import type { Mapping, Run } from './mapping.ts';
import { copyMemory, type MemoryCopy } from './memory-copy.ts';
import type { WithMemory } from './snapshot.ts';

/** Reads from the memfile of a build, as read(2) does. @returns the bytes read; 0 at the end of the file */
export type ReadMemfile = (build: BuildId, into: Buffer, position: number) => number | Promise<number>;

/**
 * @param path where the memfile of `build` goes; there must be none
 * @throws SnapshotDamaged when a memfile ends too early
 * @throws what `pace` throws
 */
export async function copyWholeMemory(
  { directory, header }: Pick<WithMemory, 'directory' | 'header'>,
  build: BuildId,
  path: string,
  pace?: Pace,
): Promise<MemoryCopy> {
  const { mapping } = header;
  await using files = new AsyncDisposableStack();
  const memfiles = new Map<BuildId, number>();
  for (const owner of mapping.builds) {
    const file = files.use(await open(directory.memfileOf(owner, header.build)));
    memfiles.set(owner, file.fd);
  }
  // Not through Node's threads: the pages are scattered, were just written, and a change of threads is ten reads.
  const read: ReadMemfile = (owner, into, position) =>
    readSync(memfiles.get(owner) as number, into, 0, into.length, position);
  return await copyMapped(mapping, read, build, path, pace);
}

/** The same of memfiles wherever they are. @throws SnapshotDamaged; what `read` throws */
export function copyMapped(
  mapping: Mapping,
  read: ReadMemfile,
  build: BuildId,
  path: string,
  pace?: Pace,
): Promise<MemoryCopy> {
  const readRuns = async (runs: Run[], into: Buffer) => {
    await pace?.();
    let at = 0;
    for (const run of runs) {
      await readRun(mapping, read, run, into.subarray(at, at + run.length));
      at += run.length;
    }
  };
  const dirty = stored(mapping);
  return copyMemory({
    source: { read: readRuns },
    ...{ dirty, memoryBytes: mapping.memoryBytes, build, path, layout: 'flat' },
  });
}

/** Runs of pages that are not zeros; neighbours are one run, whatever file they are in. */
function stored(mapping: Mapping): Run[] {
  const runs: Run[] = [];
  for (const { offset, length, build } of mapping) {
    if (build === null) continue;
    const last = runs.at(-1);
    if (last && last.offset + last.length === offset) last.length += length;
    else runs.push({ offset, length });
  }
  return runs;
}

async function readRun(mapping: Mapping, read: ReadMemfile, run: Run, into: Buffer): Promise<void> {
  for (let done = 0; done < run.length; ) {
    const { offset, length, build, storageOffset } = mapping.find(run.offset + done);
    if (build === null) throw new Error(`No memfile holds the memory at ${offset}`);
    const part = into.subarray(done, done + Math.min(length, run.length - done));
    const reading = read(build, part, storageOffset);
    // Waiting for what is there already would cost more than reading a page.
    const bytes = typeof reading === 'number' ? reading : await reading;
    if (bytes === 0) throw new SnapshotDamaged(snapshotFiles.memfile, `ends at ${storageOffset}, too early`);
    done += bytes;
  }
}
