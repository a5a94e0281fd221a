/** The memory work of a pause, by itself: the copy of changed pages, and the map of where they are. */
import { statSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { changedPages, fileMappings, readMemory } from '../apps/host-agent/src/linux/index.ts';
import {
  copyMemory,
  createMapping,
  type DirtyRun,
  mergeMapping,
  newBuildId,
  type Run,
  SnapshotDirectory,
  writeHeader,
} from '../apps/host-agent/src/snapshot/index.ts';
import { monitorOf, vmsDir } from '../tests/setup/machine.ts';
import { type Measure, machine } from './bench.ts';
import type { Measured } from './figures.ts';
import { inTurn, timed } from './in-turn.ts';
import { frozenMs } from './pause.ts';

const written = 'head -c 201326592 /dev/urandom > /dev/shm/written';
const tmpfs = '/dev/shm';
const turns = { n: 10, warmUp: 2 };
const pageBytes = 4096;
const entries = 100_000;
const chunkBytes = 4 * 2 ** 20;

export const memory: Measure = async (bench) => [await copy(bench), await merge(bench), await rePause(bench)];

/** Of a guest that runs on: nothing depends on when a page is read. */
async function copy({ instance, signal, progress }: Parameters<Measure>[0]): Promise<Measured> {
  progress('copy of 192 MiB of changed pages into tmpfs with header, against a plain copy of the same');
  const { sandboxes } = instance.perch;
  const { id } = await sandboxes.create(machine);
  await sandboxes.exec(id, { cmd: 'sh', args: ['-c', written] });
  const pid = monitorOf(instance.dataDir, id);
  const mappings = fileMappings(
    pid,
    statSync(join(vmsDir(instance.dataDir), id, 'memfile'), { bigint: true }),
  );
  const memoryBytes = (machine.memory_mb ?? 0) * 2 ** 20;
  const dirty = changedPages(pid, mappings);
  const bytes = dirty.reduce((sum, { length }) => sum + length, 0);
  const parent = createMapping(memoryBytes);
  const read = (runs: Run[], into: Buffer) => readMemory(pid, mappings, runs, into);
  const rate = (work: (dir: string) => Promise<void>) => async () => {
    const dir = await mkdtemp(join(tmpfs, 'perch-bench-'));
    const ms = await timed(() => work(dir));
    await rm(dir, { recursive: true });
    return bytes / 1e6 / (ms / 1000);
  };
  const asPerch = async (path: string) => {
    const directory = new SnapshotDirectory(path);
    const build = newBuildId();
    const request = { source: { read }, dirty, memoryBytes, build, path: directory.file('memfile') };
    const { diff } = await copyMemory({ ...request, layout: 'compact' });
    const mapping = mergeMapping(parent, diff);
    await writeHeader(directory, { generation: 0, build, baseBuild: build, mapping });
  };
  const plainly = async (path: string) => {
    await using file = await open(join(path, 'memfile'), 'wx');
    const buffer = Buffer.allocUnsafeSlow(chunkBytes);
    for (const runs of chunks(dirty)) {
      const length = runs.reduce((sum, run) => sum + run.length, 0);
      await read(runs, buffer.subarray(0, length));
      await file.write(buffer, 0, length);
    }
  };
  const { samples, floor } = await inTurn(
    { samples: rate(asPerch), floor: rate(plainly) },
    { ...turns, signal },
  );
  await sandboxes.delete(id);
  return { name: 'copy of changed memory', unit: 'MB/s', samples, floor, targets: { p50: 1000 } };
}

/** As many runs as one call of the kernel takes, and as many bytes as the buffer holds. */
function* chunks(dirty: readonly Run[]): Iterable<Run[]> {
  let chunk: Run[] = [];
  let bytes = 0;
  for (const { offset, length } of dirty) {
    for (let done = 0; done < length; ) {
      const part = Math.min(length - done, chunkBytes - bytes);
      chunk.push({ offset: offset + done, length: part });
      bytes += part;
      done += part;
      if (bytes < chunkBytes && chunk.length < 1000) continue;
      yield chunk;
      [chunk, bytes] = [[], 0];
    }
  }
  if (chunk.length > 0) yield chunk;
}

async function merge({ signal, progress }: Parameters<Measure>[0]): Promise<Measured> {
  progress(`merge of ${entries} runs into a mapping of as many`);
  // Every other page, in no order within the file: nothing can be joined.
  const memoryBytes = 4 * entries * pageBytes;
  const diff = (at: number): { build: string; runs: DirtyRun[] } => ({
    build: newBuildId(),
    runs: Array.from({ length: entries }, (_, i) => ({
      offset: (4 * i + at) * pageBytes,
      length: pageBytes,
      storageOffset: ((i * 7919) % entries) * pageBytes,
    })),
  });
  const parent = createMapping(memoryBytes, diff(0));
  const samples: number[] = [];
  for (let turn = -turns.warmUp; turn < turns.n; turn++) {
    signal.throwIfAborted();
    const next = diff(2);
    const ms = await timed(async () => mergeMapping(parent, next));
    if (turn >= 0) samples.push(ms);
  }
  return { name: `merge of ${entries} mappings`, unit: 'ms', samples, targets: { p50: 100 } };
}

async function rePause({ instance, signal, progress }: Parameters<Measure>[0]): Promise<Measured> {
  progress('pause right after a resume, of 1 GiB: what the guest itself has written meanwhile');
  const { sandboxes } = instance.perch;
  const { id } = await sandboxes.create({ ...machine, memory_mb: 1024 });
  await sandboxes.pause(id);
  const samples: number[] = [];
  for (let turn = -turns.warmUp; turn < turns.n; turn++) {
    signal.throwIfAborted();
    await sandboxes.resume(id);
    const { timings_ms } = await sandboxes.pause(id);
    if (turn >= 0) samples.push(frozenMs(timings_ms));
  }
  await sandboxes.delete(id);
  return { name: 'pause of 1 GiB again: frozen', unit: 'ms', samples, targets: { p50: 50 } };
}
