/** Reads an exception store whose bytes anybody may have written. */
import type { FileHandle } from 'node:fs/promises';
import { readFully } from './bytes.ts';
import { StoreDamaged } from './damaged.ts';
import { Exceptions } from './exceptions.ts';
import {
  assertDiskBytes,
  chunkLimits,
  exceptionBytes,
  headerBytes,
  Layout,
  magic,
  maxChunks,
  sectorBytes,
  version,
} from './format.ts';
import { ExceptionStore } from './store.ts';

/**
 * Reads header and exceptions, not the data. Time and memory follow the exceptions that are in the file, of which it
 * accepts one for each chunk of the disk.
 * @param file stays the caller's, and must not be written meanwhile
 * @param diskBytes size of the disk that it belongs to
 * @throws StoreDamaged
 */
export async function readStore(file: FileHandle, diskBytes: number): Promise<ExceptionStore> {
  assertDiskBytes(diskBytes);
  const layout = await readHeader(file);
  // A last part of a chunk is no place for one.
  const fileChunks = Math.min(Math.floor((await file.stat()).size / layout.chunkBytes), maxChunks);
  const limits = { diskChunks: Math.ceil(diskBytes / layout.chunkBytes), fileChunks };
  const exceptions = new Exceptions();
  const bytes = Buffer.allocUnsafe(layout.chunkBytes);
  for (let area = 0, full = true; full; area++) {
    const chunk = layout.areaChunk(area);
    // The kernel puts an empty area behind a full one before it fills that.
    if (chunk >= fileChunks) throw new StoreDamaged(`ends before its area ${area} of exceptions`);
    await readFully(file, bytes, chunk * layout.chunkBytes);
    const pairs = listOf(bytes);
    for (const pair of pairs) exceptions.add(...checked(pair, layout, limits));
    full = pairs.length === layout.perArea;
  }
  exceptions.finish();
  const next = Math.max(exceptions.highest, layout.areaChunk(0)) + 1;
  const nextChunk = layout.isMetadata(next) ? next + 1 : next;
  return new ExceptionStore(file, { diskBytes, layout, exceptions, nextChunk });
}

/** @returns where things lie */
async function readHeader(file: FileHandle): Promise<Layout> {
  const header = Buffer.alloc(headerBytes);
  await readFully(file, header, 0);
  const [found, valid, itsVersion, sectors] = [0, 4, 8, 12].map((at) => header.readUInt32LE(at));
  if (found !== magic) throw new StoreDamaged('is none: it does not begin with SnAp');
  if (itsVersion !== version) throw new StoreDamaged(`has version ${itsVersion}, not ${version}`);
  if (valid !== 1) {
    throw new StoreDamaged(
      'was given up by the kernel, which could not write to it: its header says invalid',
    );
  }
  const chunkBytes = (sectors ?? 0) * sectorBytes;
  const { least, most } = chunkLimits;
  if (chunkBytes < least || chunkBytes > most || !Number.isInteger(Math.log2(chunkBytes))) {
    throw new StoreDamaged(`has chunks of ${chunkBytes} bytes, not a power of 2 from ${least} to ${most}`);
  }
  return new Layout(chunkBytes);
}

type Pair = readonly [old: bigint, chunk: bigint];

/**
 * The exceptions of an area. The list ends before the first without a chunk in the file, for the kernel too,
 * whatever follows: a power cut can leave half of an area new.
 */
function listOf(area: Buffer): Pair[] {
  const pairs: Pair[] = [];
  for (let at = 0; at < area.length; at += exceptionBytes) {
    const chunk = area.readBigUInt64LE(at + 8);
    if (chunk === 0n) break;
    pairs.push([area.readBigUInt64LE(at), chunk]);
  }
  return pairs;
}

function checked(
  [old, chunk]: Pair,
  layout: Layout,
  { diskChunks, fileChunks }: { diskChunks: number; fileChunks: number },
): [old: number, chunk: number] {
  if (old >= BigInt(diskChunks)) {
    throw new StoreDamaged(`has an exception for chunk ${old} of a disk with ${diskChunks}`);
  }
  if (chunk >= BigInt(fileChunks)) {
    throw new StoreDamaged(`has an exception in its chunk ${chunk}, of ${fileChunks}`);
  }
  if (layout.isMetadata(Number(chunk))) {
    throw new StoreDamaged(`has an exception in its chunk ${chunk}, which holds exceptions itself`);
  }
  return [Number(old), Number(chunk)];
}
