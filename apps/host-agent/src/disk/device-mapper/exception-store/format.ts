/**
 * The persistent exception store of device-mapper's snapshot target: the copy-on-write file, as the kernel lays it
 * out. docs/architecture/exception-store.md describes it.
 * Source: the behaviour of dm-snapshot with persistent stores, version 1, Linux 6.12.
 */

/** The letters SnAp. */
export const magic = 0x70416e53;
export const version = 1;
export const sectorBytes = 512;
/** Read at the start of the first chunk, of which the rest means nothing. */
export const headerBytes = 16;
/** A pair of chunk numbers, 64 bits each. */
export const exceptionBytes = 16;
/** Of the stores that Perch makes: a page, the block of a guest's file system. */
export const ownChunkBytes = 4096;
/** Chunk sizes that are read: a power of two between these, as lvm(8) makes them. */
export const chunkLimits = { least: 4096, most: 512 * 1024 } as const;
/** Numbers of chunks are kept in 32 bits. */
export const maxChunks = 2 ** 32;
/** The largest disk: as large as one of the other back end. */
export const maxDiskBytes = 2 ** 42;

/** Where things lie in a store of one chunk size. */
export class Layout {
  readonly chunkBytes: number;
  /** Exceptions of one area, which are as many chunks of data behind it. */
  readonly perArea: number;

  constructor(chunkBytes: number) {
    this.chunkBytes = chunkBytes;
    this.perArea = chunkBytes / exceptionBytes;
  }

  /** The chunk that is an area of exceptions: behind the header, and behind the data of the area before. */
  areaChunk(area: number): number {
    return 1 + area * (this.perArea + 1);
  }

  /** Whether a chunk is the header's or an area. */
  isMetadata(chunk: number): boolean {
    return chunk === 0 || chunk % (this.perArea + 1) === 1;
  }

  /** The chunk that the n-th chunk of data gets, in a store where none is left out. */
  dataChunk(index: number): number {
    return this.areaChunk(Math.floor(index / this.perArea)) + 1 + (index % this.perArea);
  }

  /** Chunks of a store with so many of data, none left out: an area that is full has an empty one behind it. */
  chunksFor(dataChunks: number): number {
    return 1 + dataChunks + Math.floor(dataChunks / this.perArea) + 1;
  }
}

/**
 * Length of a store that cannot overflow, bytes: every chunk of the disk has its place.
 * @param diskBytes size that the guest sees
 * @throws RangeError for what is no size of a disk
 */
export function fullStoreBytes(diskBytes: number): number {
  assertDiskBytes(diskBytes);
  return new Layout(ownChunkBytes).chunksFor(Math.ceil(diskBytes / ownChunkBytes)) * ownChunkBytes;
}

export function assertDiskBytes(diskBytes: number): void {
  const fits = Number.isSafeInteger(diskBytes) && diskBytes > 0 && diskBytes <= maxDiskBytes;
  if (!fits || diskBytes % sectorBytes !== 0) {
    throw new RangeError(
      `A disk has a multiple of ${sectorBytes} bytes up to ${maxDiskBytes}, not ${diskBytes}`,
    );
  }
}

/**
 * The areas that the kernel writes exceptions to next, in a store that Perch has made and that is used up to here: the
 * one that is being filled and its neighbours.
 * @returns bytes of the file, where they are or would be
 */
export function areasNear(usedBytes: number): { offset: number; length: number }[] {
  const layout = new Layout(ownChunkBytes);
  const last = usedBytes / ownChunkBytes - 1;
  const area = Math.floor((last - 1) / (layout.perArea + 1));
  return [area - 1, area, area + 1]
    .filter((one) => one >= 0)
    .map((one) => ({ offset: layout.areaChunk(one) * ownChunkBytes, length: ownChunkBytes }));
}
