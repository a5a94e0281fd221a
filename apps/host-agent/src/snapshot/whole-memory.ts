/** All of a guest's memory in one file that a VM monitor can map, whichever memfiles its pages are in. */
import { readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { BuildId } from './build-id.ts';
import { SnapshotDamaged } from './damaged.ts';
import { snapshotFiles } from './layout.ts';
import type { Mapping, Run } from './mapping.ts';
import { copyMemory, type MemoryCopy } from './memory-copy.ts';
import type { Snapshot } from './snapshot.ts';

/**
 * @param path where the memfile of `build` goes; there must be none
 * @throws SnapshotDamaged when a memfile ends too early
 */
export async function copyWholeMemory(
  { directory, header }: Snapshot,
  build: BuildId,
  path: string,
): Promise<MemoryCopy> {
  const { mapping } = header;
  await using files = new AsyncDisposableStack();
  const memfiles = new Map<BuildId, number>();
  for (const owner of mapping.builds) {
    const file = files.use(await open(directory.memfileOf(owner, header.build)));
    memfiles.set(owner, file.fd);
  }
  const read = async (runs: Run[], into: Buffer) => {
    let at = 0;
    for (const run of runs) {
      readRun(mapping, memfiles, run, into.subarray(at, at + run.length));
      at += run.length;
    }
  };
  const dirty = stored(mapping);
  return await copyMemory({
    source: { read },
    ...{ dirty, memoryBytes: mapping.memoryBytes, build, path, layout: 'flat' },
  });
}

/** What is not zeros; neighbours are one run, whatever file they are in. */
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

/** Not through Node's threads: the pages are scattered, were just written, and a change of threads is ten reads. */
function readRun(mapping: Mapping, memfiles: ReadonlyMap<BuildId, number>, run: Run, into: Buffer): void {
  for (let done = 0; done < run.length; ) {
    const entry = mapping.find(run.offset + done);
    const length = Math.min(entry.length, run.length - done);
    const fd = entry.build === null ? undefined : memfiles.get(entry.build);
    if (fd === undefined) throw new Error(`No memfile holds the memory at ${entry.offset}`);
    const bytes = readSync(fd, into, done, length, entry.storageOffset);
    if (bytes === 0) {
      throw new SnapshotDamaged(snapshotFiles.memfile, `ends at ${entry.storageOffset}, too early`);
    }
    done += bytes;
  }
}
