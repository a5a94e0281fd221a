/** Makes mappings, from the lowest entry up. The only maker, and so the keeper of their normal form. */
import type { BuildId } from './build-id.ts';
import { Mapping, pageBytes } from './mapping.ts';

/** Largest memory of a guest, bytes: 1 TiB. */
export const maxMemoryBytes = 2 ** 40;
/** Most builds that one mapping names. Chains are kept far shorter; a file that names more is not ours. */
export const maxBuilds = 4096;

/** The owner index of zeros. */
export const zeroOwner = 0;

export class MappingBuilder {
  readonly #memoryBytes: number;
  readonly #starts: Float64Array;
  readonly #owners: Uint16Array;
  readonly #storage: Float64Array;
  readonly #builds: (BuildId | null)[] = [null];
  #length = 0;
  #end = 0;

  /**
   * @param capacity bound on the number of entries
   * @throws RangeError for a size that no guest has
   */
  constructor(memoryBytes: number, capacity: number) {
    if (!(memoryBytes > 0 && memoryBytes <= maxMemoryBytes && memoryBytes % pageBytes === 0)) {
      throw new RangeError(
        `A memory has a multiple of ${pageBytes} bytes up to ${maxMemoryBytes}, not ${memoryBytes}`,
      );
    }
    this.#memoryBytes = memoryBytes;
    this.#starts = new Float64Array(capacity + 1);
    this.#owners = new Uint16Array(capacity);
    this.#storage = new Float64Array(capacity);
  }

  /** Where the next entry begins. */
  get end(): number {
    return this.#end;
  }

  /** Takes a build in; call it once for each. @returns its owner index. @throws RangeError past `maxBuilds` */
  addBuild(build: BuildId): number {
    if (this.#builds.length > maxBuilds) {
      throw new RangeError(`A mapping names at most ${maxBuilds} builds; merge the older ones`);
    }
    return this.#builds.push(build) - 1;
  }

  /**
   * Adds an entry from `end` to `until`, or makes the last one longer where it continues it.
   * Trusts its arguments: callers check what comes from outside.
   */
  append(until: number, owner: number, storageOffset: number): void {
    const last = this.#length - 1;
    const continues =
      last >= 0 &&
      this.#owners[last] === owner &&
      (owner === zeroOwner ||
        storageOffset - (this.#storage[last] as number) === this.#end - (this.#starts[last] as number));
    if (!continues) {
      this.#starts[this.#length] = this.#end;
      this.#owners[this.#length] = owner;
      this.#storage[this.#length] = owner === zeroOwner ? 0 : storageOffset;
      this.#length++;
    }
    this.#end = until;
  }

  /** @throws Error when the entries do not cover the memory exactly, or did not fit: a defect of the caller */
  finish(): Mapping {
    if (this.#end !== this.#memoryBytes || this.#length > this.#owners.length) {
      throw new Error(`A mapping of ${this.#memoryBytes} bytes covers ${this.#end}`);
    }
    this.#starts[this.#length] = this.#memoryBytes;
    return new Mapping({
      starts: this.#starts.slice(0, this.#length + 1),
      owners: this.#owners.slice(0, this.#length),
      storage: this.#storage.slice(0, this.#length),
      builds: this.#builds,
    });
  }
}
