/** An exception store that was read: what of a disk differs from its base, and where in the file that is. */
import type { FileHandle } from 'node:fs/promises';
import { type DiskRange, merged, type StoredRun } from '../../ranges.ts';
import type { Exceptions } from './exceptions.ts';
import type { Layout } from './format.ts';

export class ExceptionStore {
  /** Open as long as the store is used; the caller closes it. */
  readonly file: FileHandle;
  readonly diskBytes: number;
  readonly chunkBytes: number;
  /** Length of the file up to where the kernel goes on: `dmsetup status` has it in sectors. */
  readonly usedBytes: number;
  readonly #exceptions: Exceptions;

  constructor(
    file: FileHandle,
    disk: { diskBytes: number; layout: Layout; exceptions: Exceptions; nextChunk: number },
  ) {
    this.file = file;
    this.diskBytes = disk.diskBytes;
    this.chunkBytes = disk.layout.chunkBytes;
    this.usedBytes = disk.nextChunk * disk.layout.chunkBytes;
    this.#exceptions = disk.exceptions;
  }

  /** Chunks of the disk that are in the store. */
  get chunks(): number {
    return this.#exceptions.count;
  }

  /** All that is in the store, ascending, each as long as both disk and file go on. Its data may be holes: zeros. */
  *runs(): Generator<StoredRun> {
    let last: StoredRun | undefined;
    for (const [old, chunk] of this.#exceptions) {
      const [offset, at] = [old * this.chunkBytes, chunk * this.chunkBytes];
      // The last chunk of a disk may reach beyond it.
      const length = Math.min(this.chunkBytes, this.diskBytes - offset);
      if (last && last.offset + last.length === offset && last.at + last.length === at) {
        last.length += length;
        continue;
      }
      if (last) yield last;
      last = { offset, length, at };
    }
    if (last) yield last;
  }

  /** The parts of the disk that differ, or may, from its base: ascending, none next to another. */
  changedRanges(): Generator<DiskRange> {
    return merged(this.runs());
  }
}
