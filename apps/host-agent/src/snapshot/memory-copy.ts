/**
 * Copies the dirty pages of a guest into the memfile of its build, while the guest stands still: what counts
 * is how soon it is done. One batch is read while the one before is summed up and written.
 */
import { type FileHandle, open, unlink } from 'node:fs/promises';
import type { BuildId } from './build-id.ts';
import { type FileSum, FileSummer } from './checksum.ts';
import { writeFully } from './files.ts';
import type { Run } from './mapping.ts';
import { type Batch, batchBytes, batches } from './memory-batches.ts';
import type { Diff, DirtyRun } from './merge.ts';
import { assertRuns } from './runs.ts';
import { findZeroPages, type Span } from './zero-pages.ts';

export interface MemorySource {
  /**
   * Fills `into` with the bytes of the runs, one after the other. At most `maxRunsPerRead` runs, in order,
   * together as long as `into`. Not called again before it has settled.
   */
  read(runs: Run[], into: Buffer): Promise<void>;
}

export interface MemoryCopyRequest {
  source: MemorySource;
  /** Whole pages, from the lowest up, without overlap. */
  dirty: readonly Run[];
  memoryBytes: number;
  build: BuildId;
  /** Where the memfile goes. There must be none. */
  path: string;
  /**
   * `compact`: page after page, the file as long as they are together. `flat`: each page at its place in the
   * guest, the file sparse and as long as the memory, so that a VM monitor can map it.
   */
  layout: 'compact' | 'flat';
}

export interface MemoryCopy {
  /** For `mergeMapping`. */
  diff: Diff;
  /** Of the memfile, for `commitSnapshot`. */
  sum: FileSum;
  /** Bytes written. */
  bytes: number;
  /** Bytes of dirty pages that are zeros, and were not written. */
  zeroBytes: number;
}

/**
 * The file is not synced: `commitSnapshot` does that. When it rejects, the file is gone, and no read is
 * under way.
 * @throws RangeError when `dirty` does not fit the memory; nothing was read then
 * @throws what `source` throws
 */
export async function copyMemory(request: MemoryCopyRequest): Promise<MemoryCopy> {
  assertRuns(request.dirty, request.memoryBytes);
  await using file = await open(request.path, 'wx', 0o600);
  try {
    if (request.layout === 'flat') await file.truncate(request.memoryBytes);
    const sink = new Sink(file, request);
    await pump(request, sink);
    return sink.finish();
  } catch (error) {
    await unlink(request.path);
    throw error;
  }
}

async function pump({ source, dirty }: MemoryCopyRequest, sink: Sink): Promise<void> {
  const total = dirty.reduce((sum, { length }) => sum + length, 0);
  const [first, second] = total > batchBytes ? [batchBytes, batchBytes] : [total, 0];
  using buffers = new Buffers(first, second);
  let [current, next] = buffers.both;
  const read = (batch: Batch, into: Buffer) => source.read(batch.runs, into.subarray(0, batch.bytes));
  const queue = batches(dirty);
  let { value: batch } = queue.next();
  if (batch) await read(batch, current);
  while (batch) {
    const { value: following } = queue.next();
    // The read first: the other computes for a while before it gives the thread back.
    const reading = following ? read(following, next) : undefined;
    const outcomes = await Promise.allSettled([reading, sink.write(batch, current)]);
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    [current, next] = [next, current];
    batch = following;
  }
}

/**
 * Memory that is given back at once. The collector takes it for pressure on its heap, and would go through that in the
 * middle of the next copy.
 */
class Buffers implements Disposable {
  readonly both: [Buffer, Buffer];

  constructor(first: number, second: number) {
    this.both = [Buffer.allocUnsafeSlow(first), Buffer.allocUnsafeSlow(second)];
  }

  [Symbol.dispose](): void {
    for (const { buffer } of this.both) if (buffer instanceof ArrayBuffer) buffer.transfer(0);
  }
}

/** Takes batches in order: drops zeros, sums up and writes the rest. */
class Sink {
  readonly #file: FileHandle;
  readonly #request: MemoryCopyRequest;
  readonly #summer = new FileSummer();
  readonly #runs: DirtyRun[] = [];
  #bytes = 0;
  #zeroBytes = 0;

  constructor(file: FileHandle, request: MemoryCopyRequest) {
    this.#file = file;
    this.#request = request;
  }

  async write(batch: Batch, buffer: Buffer): Promise<void> {
    const spans = findZeroPages(batch.runs, buffer);
    const pieces = this.#request.layout === 'flat' ? this.#placeFlat(spans) : this.#placeCompact(spans);
    const writing = writeAll(this.#file, pieces, buffer);
    // The checksum is computed here while the kernel copies the same bytes on another thread.
    for (const { at, start, length } of pieces) this.#summer.add(at, buffer.subarray(start, start + length));
    await writing;
  }

  finish(): MemoryCopy {
    const length = this.#request.layout === 'flat' ? this.#request.memoryBytes : this.#bytes;
    return {
      diff: { build: this.#request.build, runs: this.#runs },
      sum: this.#summer.finish(length),
      bytes: this.#bytes,
      zeroBytes: this.#zeroBytes,
    };
  }

  #placeFlat(spans: Span[]): Piece[] {
    return spans.flatMap(({ offset, start, length, zero }) => {
      this.#note({ offset, length, storageOffset: zero ? null : offset });
      return zero ? [] : [{ at: offset, start, length }];
    });
  }

  #placeCompact(spans: Span[]): Piece[] {
    const pieces: Piece[] = [];
    for (const { offset, start, length, zero } of spans) {
      const at = this.#bytes;
      this.#note({ offset, length, storageOffset: zero ? null : at });
      const last = pieces.at(-1);
      if (zero) continue;
      if (last && last.start + last.length === start) last.length += length;
      else pieces.push({ at, start, length });
    }
    return pieces;
  }

  /** Joins what was cut at the edge of a batch. */
  #note(run: DirtyRun): void {
    if (run.storageOffset === null) this.#zeroBytes += run.length;
    else this.#bytes += run.length;
    const last = this.#runs.at(-1);
    const stored =
      last?.storageOffset == null ? (last?.storageOffset ?? null) : last.storageOffset + last.length;
    if (last && last.offset + last.length === run.offset && stored === run.storageOffset)
      last.length += run.length;
    else this.#runs.push(run);
  }
}

/** A part of the buffer and where it goes in the file. */
interface Piece {
  at: number;
  start: number;
  length: number;
}

/** Writes that the kernel works on at the same time, when pages lie apart: as many as Node has threads. */
const parallelWrites = 4;

async function writeAll(file: FileHandle, pieces: readonly Piece[], buffer: Buffer): Promise<void> {
  const queue = joinAdjacent(pieces).values();
  const worker = async () => {
    for (const group of queue) {
      const parts = group.map(({ start, length }) => buffer.subarray(start, start + length));
      await writeFully(file, parts, (group[0] as Piece).at);
    }
  };
  const outcomes = await Promise.allSettled(Array.from({ length: parallelWrites }, worker));
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

/** Pieces that are neighbours in the file become one call. */
function joinAdjacent(pieces: readonly Piece[]): Piece[][] {
  const groups: Piece[][] = [];
  let end = -1;
  for (const piece of pieces) {
    if (piece.at === end) groups.at(-1)?.push(piece);
    else groups.push([piece]);
    end = piece.at + piece.length;
  }
  return groups;
}
