/** Copies parts of sparse files at the cost of their data (lseek(2), copy_file_range(2)). */
import type { FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';
import koffi from 'koffi';
import { dataRuns } from './sparse.ts';

const libc = koffi.load('libc.so.6');
const copyFileRange = libc.func(
  'long copy_file_range(int fd_in, int64_t *off_in, int fd_out, int64_t *off_out, size_t len, unsigned int flags)',
);
/** On a thread of its own, since the kernel may hold back whoever makes pages dirty. */
const copyInKernel = promisify(copyFileRange.async) as (
  from: number,
  at: [number],
  to: number,
  offset: [number],
  length: number,
  flags: number,
) => Promise<number>;

/** Copied in one call of the kernel, bytes: as long as nobody can give it up. */
const stepBytes = 64 * 2 ** 20;
const bufferBytes = 2 ** 20;

/** A part of a file, and where in another it goes, bytes. */
export interface CopiedPart {
  /** In the file that is read. */
  at: number;
  /** In the file that is written. */
  offset: number;
  length: number;
}

/**
 * Copies what is data, and nothing where the part has holes or the file has ended. Blocks are shared where the file
 * system can do so. Moves the position of `from`.
 * @throws what `signal` was aborted with; ENOSPC; Error when `from` is cut off meanwhile
 */
export async function copySparse(
  from: FileHandle,
  to: FileHandle,
  { at, offset, length }: CopiedPart,
  signal?: AbortSignal,
): Promise<void> {
  for (const run of dataRuns(from.fd, at, at + length)) {
    for (let done = 0; done < run.length; ) {
      signal?.throwIfAborted();
      const source = run.offset + done;
      const part = {
        at: source,
        offset: source - at + offset,
        length: Math.min(stepBytes, run.length - done),
      };
      done += await copyStep(from, to, part);
    }
  }
}

/** @returns bytes copied, at least one */
async function copyStep(from: FileHandle, to: FileHandle, part: CopiedPart): Promise<number> {
  const copied = await copyInKernel(from.fd, [part.at], to.fd, [part.offset], part.length, 0);
  // Between file systems, and where a call fails for any reason: reading and writing work, or say why not.
  return copied > 0 ? copied : await copyByHand(from, to, part);
}

async function copyByHand(from: FileHandle, to: FileHandle, part: CopiedPart): Promise<number> {
  const buffer = Buffer.allocUnsafe(Math.min(bufferBytes, part.length));
  const { bytesRead } = await from.read(buffer, 0, buffer.length, part.at);
  if (bytesRead === 0) throw new Error(`A file that is copied ends at ${part.at}`);
  const { bytesWritten } = await to.write(buffer, 0, bytesRead, part.offset);
  return bytesWritten;
}
