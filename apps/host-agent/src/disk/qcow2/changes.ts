/**
 * The changes of layers, as `qemu-img` tells of them: a sparse raw file with the bytes that the layers have, and the map
 * of what is theirs. Both were written by a user who may be a guest's by now, and hold nothing but that guest's disk.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { qcow2Obstacle } from '@perch/node-kit';
import type { ToolPlace } from '../backend.ts';
import { readOrZeros, writeFully } from '../bytes.ts';
import type { Changes, LayeredState, ReadPlan } from '../changes.ts';
import { blockBytes } from '../differences.ts';
import { layersOf } from '../disk.ts';
import type { DiskRange, StoredRun } from '../ranges.ts';
import { clusterSize } from './header.ts';
import { makeHole, measure } from './measure.ts';
import {
  asFilename,
  baseName,
  chainOf,
  convertToRaw,
  linkLayers,
  runQemuImg,
  unhurried,
} from './qemu-img.ts';

const [rawName, mapName] = ['changes.raw', 'changes.map'];
/** Of one line of the map, bytes. */
const maxLine = 512;

/** The most that a map of that disk may be, bytes: a line for each cluster of the size that Perch makes. */
const maxMapBytes = (sizeBytes: number) => Math.ceil(sizeBytes / clusterSize) * 256 + 2 ** 20;

export async function readChanges(
  state: LayeredState,
  base: FileHandle,
  tool: ToolPlace,
  { admit }: Pick<ReadPlan, 'admit'>,
): Promise<Changes & AsyncDisposable> {
  const obstacle = qcow2Obstacle();
  if (obstacle !== undefined) throw new Error(`Layers of qcow2 cannot be read here: ${obstacle}`);
  const { dir, uid, sizeBytes } = tool;
  await linkLayers(state, dir);
  await makeHole(tool, baseName);
  const count = layersOf(state).length;
  const chain = chainOf(count);
  const unpacked = await measure(tool, chain);
  // It is told in clusters, and no unit is larger.
  await admit({ reading: unpacked + maxMapBytes(sizeBytes), changed: unpacked });
  await using made = new AsyncDisposableStack();
  const flags = constants.O_CREAT | constants.O_EXCL | constants.O_RDWR;
  const file = made.use(await open(join(dir, rawName), flags, 0o600));
  const map = made.use(await open(join(dir, mapName), flags, 0o600));
  await file.truncate(sizeBytes);
  await file.chown(uid, uid);
  const how = tool.rest ? unhurried : [];
  await runQemuImg(tool, sizeBytes, 'read', [...how, ...convertToRaw(chain, rawName)]);
  await runQemuImg(
    tool,
    maxMapBytes(sizeBytes),
    'mapped',
    [...how, 'qemu-img', 'map', '--output=json', asFilename(chain)],
    map.fd,
  );
  const ranges = changedRanges(map, count, sizeBytes);
  const held = made.move();
  return {
    file,
    runs: wholeBlocks(ranges, { file, base, sizeBytes }),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** A part of the disk, as the map has it. @param depth counts layers from the uppermost down */
const entry = /^\[?\{ "start": (\d{1,16}), "length": (\d{1,16}), "depth": (\d{1,9}),/;

/** @throws Error for what is no map of that disk */
async function* changedRanges(map: FileHandle, count: number, sizeBytes: number): AsyncGenerator<DiskRange> {
  let end = 0;
  for await (const line of linesOf(map)) {
    const [start, length, depth] = (entry.exec(line) ?? []).slice(1).map(Number);
    if (start !== end || length === undefined || depth === undefined) throw untold();
    end += length;
    if (depth >= count || start >= sizeBytes) continue;
    yield { offset: start, length: Math.min(length, sizeBytes - start) };
  }
  // As of a layer for a smaller disk, or where the host's disk is full.
  if (end < sizeBytes) throw untold();
}

const untold = () => new Error('qemu-img has not told which parts of the disk are in its layers');

async function* linesOf(file: FileHandle): AsyncGenerator<string> {
  const buffer = Buffer.allocUnsafe(64 * 1024);
  let rest = '';
  for (let at = 0; ; ) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) break;
    at += bytesRead;
    const lines = (rest + buffer.toString('latin1', 0, bytesRead)).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > maxLine) break;
    yield* lines;
  }
  if (rest !== '') yield rest;
}

/**
 * Layers of others may have smaller clusters than blocks: the rest of a block is the image's.
 * @returns runs of whole blocks, ascending and apart
 */
async function* wholeBlocks(
  ranges: AsyncIterable<DiskRange>,
  { file, base, sizeBytes }: { file: FileHandle; base: FileHandle; sizeBytes: number },
): AsyncGenerator<StoredRun> {
  const fill = async (from: number, to: number) => {
    if (from >= to) return;
    const bytes = Buffer.allocUnsafe(to - from);
    await readOrZeros(base, bytes, from);
    await writeFully(file, bytes, from);
  };
  const blockEnd = (offset: number) => Math.min(Math.ceil(offset / blockBytes) * blockBytes, sizeBytes);
  let run = { offset: 0, length: 0 };
  for await (const { offset, length } of ranges) {
    const end = run.offset + run.length;
    const start = offset - (offset % blockBytes);
    if (start <= end) await fill(end, offset);
    else {
      await fill(end, blockEnd(end));
      if (run.length > 0) yield stored(run.offset, blockEnd(end));
      await fill(start, offset);
      run = { offset: start, length: 0 };
    }
    run.length = offset + length - run.offset;
  }
  const end = run.offset + run.length;
  await fill(end, blockEnd(end));
  if (run.length > 0) yield stored(run.offset, blockEnd(end));
}

const stored = (offset: number, end: number): StoredRun => ({ offset, length: end - offset, at: offset });
