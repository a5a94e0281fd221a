/** Tells where disks differ, by the parts of them that files have. */
import type { FileHandle } from 'node:fs/promises';
import { readOrZeros } from './bytes.ts';
import { type DiskRange, merged, type StoredRun } from './ranges.ts';

/** Compared as one, bytes: every part begins at a multiple of it. */
export const blockBytes = 4096;
const bufferBytes = 2 ** 20;

/** Parts of a disk that are in a file. */
export interface StoredParts {
  file: FileHandle;
  /** Ascending and apart, of whole blocks of 4096 bytes but for the last of the disk. */
  runs: () => Iterable<StoredRun>;
}

/** A part of the disk that at least one of two has, and where. */
interface Piece extends DiskRange {
  first: number | undefined;
  second: number | undefined;
}

/**
 * The parts of a disk that only one of two has, or that both have with other bytes: ascending, none next to another, in
 * blocks of 4096 bytes. Its cost follows the parts that both have, which are read.
 * @throws what `signal` was aborted with
 */
export async function* differences(
  first: StoredParts,
  second: StoredParts,
  signal?: AbortSignal,
): AsyncGenerator<DiskRange> {
  let last: DiskRange | undefined;
  for (const piece of pieces(first, second)) {
    for await (const range of differing(piece, first, second, signal)) {
      if (last && last.offset + last.length === range.offset) {
        last.length += range.length;
        continue;
      }
      if (last) yield last;
      last = range;
    }
  }
  if (last) yield last;
}

async function* differing(
  { offset, length, first, second }: Piece,
  one: StoredParts,
  other: StoredParts,
  signal: AbortSignal | undefined,
): AsyncGenerator<DiskRange> {
  if (first === undefined || second === undefined) {
    yield { offset, length };
    return;
  }
  for (let done = 0; done < length; done += bufferBytes) {
    signal?.throwIfAborted();
    const bytes = Math.min(bufferBytes, length - done);
    const [mine, its] = [Buffer.allocUnsafe(bytes), Buffer.allocUnsafe(bytes)];
    await Promise.all([
      readOrZeros(one.file, mine, first + done),
      readOrZeros(other.file, its, second + done),
    ]);
    yield* merged(differingBlocks(mine, its, offset + done));
  }
}

function* differingBlocks(one: Buffer, other: Buffer, offset: number): Generator<DiskRange> {
  if (one.equals(other)) return;
  for (let at = 0; at < one.length; at += blockBytes) {
    const block = one.subarray(at, at + blockBytes);
    if (!block.equals(other.subarray(at, at + blockBytes)))
      yield { offset: offset + at, length: block.length };
  }
}

/** Two ascending lists of runs as one, cut wherever a run of either begins or ends. */
function* pieces(first: StoredParts, second: StoredParts): Generator<Piece> {
  const [ones, others] = [first.runs()[Symbol.iterator](), second.runs()[Symbol.iterator]()];
  let [one, other] = [next(ones), next(others)];
  while (one || other) {
    const offset = Math.min(
      one?.offset ?? Number.POSITIVE_INFINITY,
      other?.offset ?? Number.POSITIVE_INFINITY,
    );
    const end = Math.min(borderAfter(offset, one), borderAfter(offset, other));
    const at = (run?: StoredRun) => (run?.offset === offset ? run.at : undefined);
    yield { offset, length: end - offset, first: at(one), second: at(other) };
    one = restAfter(end, one, ones);
    other = restAfter(end, other, others);
  }
}

/** Where a run begins or ends next. */
function borderAfter(offset: number, run: StoredRun | undefined): number {
  if (!run) return Number.POSITIVE_INFINITY;
  return run.offset > offset ? run.offset : run.offset + run.length;
}

/** Of a run all from `end` on, or the next run when that is nothing. */
function restAfter(
  end: number,
  run: StoredRun | undefined,
  runs: Iterator<StoredRun>,
): StoredRun | undefined {
  const cut = run ? end - run.offset : 0;
  if (!run || cut <= 0) return run;
  if (cut === run.length) return next(runs);
  return { offset: end, length: run.length - cut, at: run.at + cut };
}

function next(runs: Iterator<StoredRun>): StoredRun | undefined {
  const { done, value } = runs.next();
  return done ? undefined : value;
}
