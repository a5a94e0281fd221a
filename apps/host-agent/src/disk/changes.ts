/** The changes that layers make to the image below them, whatever their format. */
import type { FileHandle } from 'node:fs/promises';
import { dataRuns } from '../linux/index.ts';
import type { ToolPlace } from './backend.ts';
import { blockBytes, differences, type StoredParts } from './differences.ts';
import type { DiskState } from './disk.ts';
import type { StoredRun } from './ranges.ts';

/** Layers over an image. */
export type LayeredState = Extract<DiskState, { base: string }>;

/** The parts of a disk that are not the image's, or may not be, and the file that has their bytes. */
export interface Changes {
  file: FileHandle;
  /** Ascending and apart, of whole blocks of 4096 bytes but for the last of the disk. */
  runs: Iterable<StoredRun> | AsyncIterable<StoredRun>;
}

/** Asked before a layer is read. */
export interface ReadPlan {
  /** The least that a change takes where it goes. */
  unitBytes: number;
  /**
   * @param room bytes on the host that reading takes, and bytes of the disk that are changed and no zeros, in units: at most
   * @throws PerchError capacity_exhausted
   */
  admit: (room: { reading: number; changed: number }) => Promise<void>;
}

/** A format of layers as files, read and written without the kernel or the monitor that uses them. */
export interface LayerCodec {
  /** The least that a change takes in a layer, bytes of the disk. */
  unitBytes: number;
  /** Bytes of a layer beside its data when all of the disk is changed: zeros have no data, and are told too. */
  maxListBytes(sizeBytes: number): number;
  /** @throws Error for layers that cannot be read, and as `DiskBackend.flatten` */
  read(
    state: LayeredState,
    base: FileHandle,
    tool: ToolPlace,
    plan: ReadPlan,
  ): Promise<Changes & AsyncDisposable>;
  /** Makes an empty file a layer of the changes to `base`. Not synced. @throws what `signal` was aborted with; ENOSPC */
  write(to: FileHandle, changes: Changes, base: FileHandle, tool: ToolPlace): Promise<void>;
}

/**
 * Of changes those whose bytes are others than the image's. Its cost follows the data that either has there.
 * @throws what `signal` was aborted with
 */
export async function* differing(
  { file, runs }: Changes,
  base: FileHandle,
  signal: AbortSignal,
): AsyncGenerator<StoredRun> {
  for await (const run of runs) {
    signal.throwIfAborted();
    const { offset, length, at } = run;
    const changed = dataOf(file, run);
    const below = dataOf(base, { offset, length, at: offset });
    for await (const range of differences(changed, below, signal))
      yield { ...range, at: at + range.offset - offset };
  }
}

/** Comes without a rest in between, bytes. */
const pieceBytes = 4 * 2 ** 20;

/** The same runs, cut where a rest is due: whoever works on each as it comes rests then. */
export async function* withRests(
  runs: Changes['runs'],
  rest: () => Promise<void>,
): AsyncGenerator<StoredRun> {
  let left = 0;
  for await (const { offset, length, at } of runs) {
    for (let done = 0; done < length; ) {
      if (left === 0) {
        await rest();
        left = pieceBytes;
      }
      const part = Math.min(left, length - done);
      yield { offset: offset + done, length: part, at: at + done };
      left -= part;
      done += part;
    }
  }
}

/** The data within a run, in whole blocks: the rest of it is zeros. */
export function dataOf(file: FileHandle, { offset, length, at }: StoredRun): StoredParts {
  return {
    file,
    *runs() {
      let end = 0;
      for (const data of dataRuns(file.fd, at, at + length)) {
        const [first, last] = [data.offset - at, data.offset - at + data.length];
        const from = Math.max(end, Math.floor(first / blockBytes) * blockBytes);
        end = Math.min(length, Math.ceil(last / blockBytes) * blockBytes);
        if (from < end) yield { offset: offset + from, length: end - from, at: at + from };
      }
    },
  };
}
