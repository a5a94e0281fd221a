/** The exceptions of a store: which chunk of the disk is in which chunk of the file. */
import { StoreDamaged } from './damaged.ts';

const pageBits = 10;
const pageLength = 2 ** pageBits;

/** Chunk of the file by chunk of the disk, in pages that are there when the disk was changed in them. */
export class Exceptions implements Iterable<readonly [old: number, chunk: number]> {
  /** Zero for what is not in the file, whose first chunk is the header. */
  readonly #pages = new Map<number, Uint32Array>();
  #count = 0;
  #highest = 0;
  #ascending = true;

  get count(): number {
    return this.#count;
  }

  /** The highest chunk of the file that one is in, 0 without any. */
  get highest(): number {
    return this.#highest;
  }

  /** @throws StoreDamaged when there is one for that chunk of the disk */
  add(old: number, chunk: number): void {
    const number = old >>> pageBits;
    const page = this.#pages.get(number) ?? new Uint32Array(pageLength);
    this.#pages.set(number, page);
    const at = old % pageLength;
    if (page[at] !== 0) throw new StoreDamaged(`has two exceptions for chunk ${old} of the disk`);
    page[at] = chunk;
    this.#count++;
    this.#ascending &&= chunk > this.#highest;
    this.#highest = Math.max(this.#highest, chunk);
  }

  /** To be called once all are there. @throws StoreDamaged when two are in one chunk of the file */
  finish(): void {
    // The kernel gives out chunks in their order, and lists them in it.
    if (this.#ascending) return;
    const chunks = new Uint32Array(this.#count);
    let count = 0;
    for (const [, chunk] of this) chunks[count++] = chunk;
    chunks.sort();
    const twice = chunks.find((chunk, i) => chunk === chunks[i + 1]);
    if (twice !== undefined) throw new StoreDamaged(`has two exceptions in its chunk ${twice}`);
  }

  /** Ascending on the disk. */
  *[Symbol.iterator](): Generator<readonly [old: number, chunk: number]> {
    for (const number of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const page = this.#pages.get(number);
      for (const [i, chunk] of page?.entries() ?? []) {
        if (chunk !== 0) yield [number * pageLength + i, chunk];
      }
    }
  }
}
