/** For the tests beside this file: files that go with the test, and stores that no code of ours has written. */
import { mkdtempSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { merged, type StoredRun } from '../../ranges.ts';

export const MiB = 2 ** 20;
export const KiB = 1024;

/** Files of one test, closed and removed with it. */
export class TestFiles implements AsyncDisposable {
  readonly root = mkdtempSync(join(tmpdir(), 'perch-exceptions-'));
  readonly #open: FileHandle[] = [];

  /** An open file with these bytes, holes where they are zero for 4096 bytes. */
  async file(bytes: Uint8Array = new Uint8Array()): Promise<FileHandle> {
    const file = await open(join(this.root, `${this.#open.length}`), 'wx+');
    this.#open.push(file);
    await file.truncate(bytes.length);
    for (let from = 0, to = 0; from < bytes.length; from = to + 4096) {
      for (to = from; to < bytes.length && isData(bytes.subarray(to, to + 4096)); to += 4096);
      if (to > from) await file.write(bytes.subarray(from, to), 0, null, from);
    }
    return file;
  }

  path(file: FileHandle): string {
    return join(this.root, `${this.#open.indexOf(file)}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const file of this.#open) await file.close();
    rmSync(this.root, { recursive: true });
  }
}

const zeros = Buffer.alloc(4096);

function isData(block: Uint8Array): boolean {
  return zeros.compare(block, 0, block.length, 0, block.length) !== 0;
}

/** All bytes of a file, whatever its position. */
export async function bytesOf(file: FileHandle): Promise<Buffer> {
  const bytes = Buffer.alloc((await file.stat()).size);
  for (let at = 0; at < bytes.length; ) at += (await file.read(bytes, at, bytes.length - at, at)).bytesRead;
  return bytes;
}

export interface StoreFacts {
  magic?: number;
  valid?: number;
  version?: number;
  sectors?: number;
  /** Chunk of the disk and chunk of the file, in the order of the list. */
  exceptions?: readonly (readonly [old: number | bigint, chunk: number | bigint])[];
  /** Length of the file, chunks. By default it has all chunks named, and the area behind the last full one. */
  chunks?: number;
}

/** A store as the kernel lays it out. Each chunk of data is full of the lowest byte of its number. */
export function storeBytes(facts: StoreFacts = {}): Buffer {
  const { magic = 0x70416e53, valid = 1, version = 1, sectors = 8, exceptions = [] } = facts;
  const chunkBytes = Math.max(sectors, 8) * 512;
  const perArea = chunkBytes / 16;
  const areas = Math.floor(exceptions.length / perArea) + 1;
  const named = exceptions.map(([, chunk]) => Number(chunk)).filter((chunk) => chunk < 10_000);
  const least = Math.max(2 + (areas - 1) * (perArea + 1), ...named.map((chunk) => chunk + 1));
  const bytes = Buffer.alloc(Math.max(least, facts.chunks ?? 0) * chunkBytes);
  for (const chunk of named) bytes.fill(chunk & 255, chunk * chunkBytes, (chunk + 1) * chunkBytes);
  for (const [i, word] of [magic, valid, version, sectors].entries()) bytes.writeUInt32LE(word, i * 4);
  for (const [i, pair] of exceptions.entries()) {
    const at = (1 + Math.floor(i / perArea) * (perArea + 1)) * chunkBytes + (i % perArea) * 16;
    bytes.writeBigUInt64LE(BigInt(pair[0]), at);
    bytes.writeBigUInt64LE(BigInt(pair[1]), at + 8);
  }
  return bytes.subarray(0, (facts.chunks ?? Number.POSITIVE_INFINITY) * chunkBytes);
}

/** A disk in memory, and the parts of it that are to be in a store. */
export interface Changed {
  /** Ascending chunks of 4096 bytes, and what each is full of. */
  chunks: ReadonlyMap<number, number>;
  diskBytes: number;
}

/** The disk with the changes made to it. */
export function changedDisk(base: Buffer, { chunks, diskBytes }: Changed): Buffer {
  const disk = Buffer.alloc(diskBytes);
  base.copy(disk);
  for (const [chunk, byte] of chunks) disk.subarray(chunk * 4096, (chunk + 1) * 4096).fill(byte);
  return disk;
}

/** The changes as they lie in a raw image of the whole disk. */
export function* runsOf({ chunks, diskBytes }: Changed): Generator<StoredRun> {
  const each = [...chunks.keys()]
    .sort((a, b) => a - b)
    .map((chunk) => ({ offset: chunk * 4096, length: 4096 }));
  for (const { offset, length } of merged(each)) {
    yield { offset, length: Math.min(length, diskBytes - offset), at: offset };
  }
}
