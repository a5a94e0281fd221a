/** Checksums of files, extent by extent: a sparse file has none for its holes. */
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { dataRuns } from '../linux/index.ts';
import { SnapshotDamaged } from './damaged.ts';
import { openRegular, readFully } from './files.ts';
import type { Run } from './mapping.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

/** Longest extent, bytes: what is read again to find out where a file is damaged. */
export const maxExtentBytes = 64 * MiB;
/** Data on both sides of a hole up to this are one extent, so that scattered pages do not swell the manifest. */
const joinedHoleBytes = 64 * KiB;
const readBytes = 4 * MiB;
const zeros = Buffer.alloc(Math.max(joinedHoleBytes, readBytes));

/** Offset, length (both bytes) and CRC-32 (as zlib and gzip have it) of a part of a file. */
export type Extent = [offset: number, length: number, crc: number];

/** Outside of the extents, which are sorted and do not overlap, the file has only zeros. */
export interface FileSum {
  /** Bytes. */
  length: number;
  extents: Extent[];
}

/** Sums a file up from its bytes, given from the lowest offset up. */
export class FileSummer {
  readonly #extents: Extent[] = [];

  /** `offset` is at or past the end of what was added before. The bytes in between are zeros. */
  add(offset: number, bytes: Buffer): void {
    this.#fillHole(offset);
    let done = 0;
    while (done < bytes.length) {
      const extent = this.#open(offset + done);
      const part = bytes.subarray(done, done + maxExtentBytes - extent[1]);
      extent[2] = crc32(part, extent[2]);
      extent[1] += part.length;
      done += part.length;
    }
  }

  finish(length: number): FileSum {
    return { length, extents: this.#extents };
  }

  #fillHole(until: number): void {
    const last = this.#extents.at(-1);
    if (!last) return;
    const hole = until - last[0] - last[1];
    if (hole <= 0 || hole > joinedHoleBytes || last[1] + hole >= maxExtentBytes) return;
    last[2] = crc32(zeros.subarray(0, hole), last[2]);
    last[1] += hole;
  }

  #open(offset: number): Extent {
    const last = this.#extents.at(-1);
    if (last && last[0] + last[1] === offset && last[1] < maxExtentBytes) return last;
    const next: Extent = [offset, 0, 0];
    this.#extents.push(next);
    return next;
  }
}

/** Awaited before each step of a few MiB: for work that can wait, or be given up by what it throws. */
export type Pace = () => Promise<void>;

/** Reads the data of a file, not its holes. @throws SnapshotDamaged when there is none, or it cannot be read */
export async function sumFile(path: string, name: string, pace?: Pace): Promise<FileSum> {
  await using file = await openRegular(path, name);
  const { size } = await file.stat();
  const summer = new FileSummer();
  for (const { offset, length } of dataRuns(file.fd, 0, size)) {
    await eachPart(file, name, { offset, length }, (at, bytes) => summer.add(at, bytes), pace);
  }
  return summer.finish(size);
}

/** Reads a file and holds it against its sum. @throws SnapshotDamaged, which says from where to where */
export async function verifyFile(path: string, name: string, sum: FileSum, pace?: Pace): Promise<void> {
  await using file = await openRegular(path, name);
  const { size } = await file.stat();
  if (size !== sum.length) throw new SnapshotDamaged(name, `has ${size} bytes instead of ${sum.length}`);
  let end = 0;
  for (const [offset, length, expected] of sum.extents) {
    await assertZeros(file, name, end, offset);
    let crc = 0;
    const add = (_: number, bytes: Buffer) => {
      crc = crc32(bytes, crc);
    };
    await eachPart(file, name, { offset, length }, add, pace);
    end = offset + length;
    if (crc !== expected)
      throw new SnapshotDamaged(name, `is not what was written between ${offset} and ${end}`);
  }
  await assertZeros(file, name, end, size);
}

/** The same for a small file that is in memory already. @throws SnapshotDamaged */
export function verifyBytes(bytes: Buffer, name: string, sum: FileSum): void {
  const summer = new FileSummer();
  for (const [offset, length] of sum.extents) summer.add(offset, bytes.subarray(offset, offset + length));
  const found = summer.finish(bytes.length);
  let end = 0;
  for (const [index, [offset, length, crc]] of sum.extents.entries()) {
    if (found.extents[index]?.[2] !== crc || !isZero(bytes.subarray(end, offset))) throw damagedBytes(name);
    end = offset + length;
  }
  if (bytes.length !== sum.length || !isZero(bytes.subarray(end))) throw damagedBytes(name);
}

function damagedBytes(name: string): SnapshotDamaged {
  return new SnapshotDamaged(name, 'is not what was written');
}

async function assertZeros(file: FileHandle, name: string, from: number, until: number): Promise<void> {
  for (const run of dataRuns(file.fd, from, until)) {
    await eachPart(file, name, run, (at, bytes) => {
      if (!isZero(bytes)) throw new SnapshotDamaged(name, `has data at ${at}, where none were written`);
    });
  }
}

function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += zeros.length) {
    const part = bytes.subarray(at, at + zeros.length);
    if (!part.equals(zeros.subarray(0, part.length))) return false;
  }
  return true;
}

/** The bytes are only good until `use` returns. */
async function eachPart(
  file: FileHandle,
  name: string,
  { offset, length }: Run,
  use: (at: number, bytes: Buffer) => void,
  pace?: Pace,
): Promise<void> {
  const buffer = Buffer.allocUnsafe(Math.min(readBytes, length));
  for (let done = 0; done < length; done += buffer.length) {
    await pace?.();
    const part = buffer.subarray(0, length - done);
    await readFully(file, part, offset + done, name);
    use(offset + done, part);
  }
}
