/**
 * Which build holds which part of a guest's memory.
 *
 * A mapping is a list of entries that cover the memory from 0 to its end without gaps. It is kept as
 * parallel arrays: 100,000 entries are 1.8 MB in four objects, instead of as many objects that the garbage
 * collector walks while a guest stands still. It is always in normal form: two adjacent entries never
 * continue each other. It never changes.
 */
import type { BuildId } from './build-id.ts';

/** The unit of dirtiness, bytes: a page of x86-64 and arm64, and the block size of `memfile.header`. */
export const pageBytes = 4096;

/** Offset and length in guest memory, bytes, both multiples of `pageBytes`. */
export interface Run {
  offset: number;
  length: number;
}

export interface MappingEntry extends Run {
  /** Whose memfile holds the bytes; null: they are zeros, and no file holds them. */
  build: BuildId | null;
  /** Offset in that memfile, bytes; 0 for zeros. */
  storageOffset: number;
}

export interface MappingArrays {
  /** Offset of each entry, and behind the last the size of the memory. */
  starts: Float64Array;
  /** Index into `builds` of each entry. */
  owners: Uint16Array;
  storage: Float64Array;
  /** Each build that an entry names, once; null (zeros) at index 0. */
  builds: readonly (BuildId | null)[];
}

export class Mapping {
  readonly arrays: Readonly<MappingArrays>;

  /** Only `MappingBuilder` calls this: it is what holds the invariants. */
  constructor(arrays: MappingArrays) {
    this.arrays = arrays;
  }

  /** Number of entries. */
  get length(): number {
    return this.arrays.owners.length;
  }

  get memoryBytes(): number {
    return this.arrays.starts[this.length] as number;
  }

  /** Builds whose memfiles are needed, in no particular order. */
  get builds(): BuildId[] {
    return this.arrays.builds.filter((build) => build !== null);
  }

  /** @param index 0 to `length` - 1 */
  entry(index: number): MappingEntry {
    return this.#from(index, this.arrays.starts[index] as number);
  }

  /**
   * The rest of the entry that holds the byte at `offset`, from that byte on. O(log n).
   * @throws RangeError outside of the memory
   */
  find(offset: number): MappingEntry {
    if (!(offset >= 0 && offset < this.memoryBytes)) {
      throw new RangeError(`The memory has ${this.memoryBytes} bytes, and none at ${offset}`);
    }
    const { starts } = this.arrays;
    let low = 0;
    let high = this.length;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if ((starts[middle] as number) <= offset) low = middle;
      else high = middle;
    }
    return this.#from(low, offset);
  }

  *[Symbol.iterator](): Generator<MappingEntry> {
    for (let index = 0; index < this.length; index++) yield this.entry(index);
  }

  /** Bytes that each build contributes. Zeros count for none. */
  bytesByBuild(): Map<BuildId, number> {
    return this.#byBuild((sum, length) => sum + length);
  }

  /** How long the memfile of each build must at least be, bytes. */
  storageEnds(): Map<BuildId, number> {
    return this.#byBuild((most, length, storageOffset) => Math.max(most, storageOffset + length));
  }

  #byBuild(add: (sum: number, length: number, storageOffset: number) => number): Map<BuildId, number> {
    const { starts, owners, storage, builds } = this.arrays;
    const sums = new Float64Array(builds.length);
    for (let index = 0; index < this.length; index++) {
      const owner = owners[index] as number;
      const length = (starts[index + 1] as number) - (starts[index] as number);
      sums[owner] = add(sums[owner] as number, length, storage[index] as number);
    }
    return new Map(
      builds.flatMap((build, owner) => (build === null ? [] : [[build, sums[owner] as number]])),
    );
  }

  #from(index: number, offset: number): MappingEntry {
    const { starts, owners, storage, builds } = this.arrays;
    const build = builds[owners[index] as number] ?? null;
    return {
      offset,
      length: (starts[index + 1] as number) - offset,
      build,
      storageOffset: build === null ? 0 : (storage[index] as number) + offset - (starts[index] as number),
    };
  }
}
