/** Makes an exception store that the kernel goes on from. */
import type { FileHandle } from 'node:fs/promises';
import { copySparse } from '../../../linux/index.ts';
import { writeFully } from '../../bytes.ts';
import type { StoredRun } from '../../ranges.ts';
import {
  assertDiskBytes,
  exceptionBytes,
  fullStoreBytes,
  headerBytes,
  Layout,
  magic,
  ownChunkBytes,
  sectorBytes,
  version,
} from './format.ts';

const layout = new Layout(ownChunkBytes);

/**
 * Writes a store with the given parts of a disk, and room for all the rest. Holes stay holes, and read as zeros. The
 * header comes last, so that a file that was not finished is no store. Not synced.
 * @param to empty, open for reading and writing
 * @param runs ascending and apart, of whole chunks of 4096 bytes, the last one up to the end of the disk
 * @param from the file that has the bytes of the runs; zeros where it has ended
 * @throws RangeError for other runs; what `signal` was aborted with; ENOSPC
 */
export async function writeStore(
  to: FileHandle,
  diskBytes: number,
  runs: Iterable<StoredRun> | AsyncIterable<StoredRun>,
  from: FileHandle,
  signal?: AbortSignal,
): Promise<void> {
  await to.truncate(fullStoreBytes(diskBytes));
  const area = Buffer.alloc(ownChunkBytes);
  let count = 0;
  const writeArea = async (number: number) => {
    await writeFully(to, area, layout.areaChunk(number) * ownChunkBytes);
    area.fill(0);
  };
  for await (const part of partsOf(runs, diskBytes)) {
    const chunk = layout.dataChunk(count);
    await copySparse(from, to, { at: part.at, offset: chunk * ownChunkBytes, length: part.length }, signal);
    const old = part.offset / ownChunkBytes;
    for (let i = 0; i * ownChunkBytes < part.length; i++) {
      const at = (count % layout.perArea) * exceptionBytes;
      area.writeBigUInt64LE(BigInt(old + i), at);
      area.writeBigUInt64LE(BigInt(chunk + i), at + 8);
      count++;
    }
    if (count % layout.perArea === 0) await writeArea(count / layout.perArea - 1);
  }
  await writeArea(Math.floor(count / layout.perArea));
  await writeFully(to, header(), 0);
}

function header(): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  const words = [magic, 1, version, ownChunkBytes / sectorBytes];
  for (const [i, word] of words.entries()) bytes.writeUInt32LE(word, i * 4);
  return bytes;
}

/** The runs, cut where an area of exceptions comes between. */
async function* partsOf(
  runs: Iterable<StoredRun> | AsyncIterable<StoredRun>,
  diskBytes: number,
): AsyncGenerator<StoredRun> {
  assertDiskBytes(diskBytes);
  let [end, count] = [0, 0];
  for await (const run of runs) {
    assertRun(run, end, diskBytes);
    end = run.offset + run.length;
    for (let done = 0; done < run.length; ) {
      const room = (layout.perArea - (count % layout.perArea)) * ownChunkBytes;
      const length = Math.min(room, run.length - done);
      yield { offset: run.offset + done, length, at: run.at + done };
      done += length;
      count += Math.ceil(length / ownChunkBytes);
    }
  }
}

function assertRun({ offset, length, at }: StoredRun, from: number, diskBytes: number): void {
  const end = offset + length;
  const whole = offset % ownChunkBytes === 0 && (end % ownChunkBytes === 0 || end === diskBytes);
  if (whole && offset >= from && length > 0 && end <= diskBytes && at >= 0) return;
  throw new RangeError(
    `A store of ${diskBytes} bytes cannot have ${length} bytes at ${offset}, from ${at}, after ${from}`,
  );
}
