/** Memory of output on its way to a client, which is used again. */
import { release } from '@perch/node-kit';

/** Longest piece that the memory is kept of, bytes: guest agents send no longer ones. */
const keptBytes = 256 * 1024;
/** Shorter pieces come seldom, or cost more in other places. */
const shortBytes = 16 * 1024;
/** Shorter pieces have memory of their length, since many of them can wait for a slow client. */
const sparseBytes = 64 * 1024;
/** Kept by this process, whose sessions share them: as many as some busy ones have on their way. */
const maxFree = 16;
/** Ahead of a piece: for the number of its stream, and for what is missing of its first character. */
const headroom = 4;

/**
 * Pieces of output with room ahead, so that what is put before them copies none. Fresh memory for each would be
 * pressure to the collector, which then goes through all of its heap again and again.
 */
export class OutputMemory {
  readonly #free: ArrayBuffer[] = [];
  /** Whose pieces have room ahead. */
  readonly #own = new WeakSet<ArrayBufferLike>();

  /** @returns room for a piece of `length` bytes, of any content */
  readonly allocate = (length: number): Buffer => {
    if (length < shortBytes) return Buffer.allocUnsafe(length);
    const isKept = length >= sparseBytes && length <= keptBytes;
    const memory = isKept ? (this.#free.pop() ?? fresh(keptBytes)) : fresh(length);
    this.#own.add(memory);
    return Buffer.from(memory, headroom, length);
  };

  /** @returns both, in memory of the piece where it has room. Nobody else may use that any more. */
  readonly prepend = (ahead: Buffer, piece: Buffer): Buffer => {
    const { buffer, byteOffset, length } = piece;
    if (!this.#own.has(buffer) || byteOffset < ahead.length) return Buffer.concat([ahead, piece]);
    const both = Buffer.from(buffer, byteOffset - ahead.length, ahead.length + length);
    ahead.copy(both);
    return both;
  };

  /** Nobody uses any bytes of its memory any more. */
  free({ buffer }: Buffer): void {
    if (!this.#own.has(buffer)) return;
    const kept = buffer.byteLength === headroom + keptBytes && this.#free.length < maxFree;
    if (kept) this.#free.push(buffer as ArrayBuffer);
    else release(new Uint8Array(buffer));
  }
}

/** Of all sessions: one that is idle keeps none. */
export const outputMemory = new OutputMemory();

function fresh(length: number): ArrayBuffer {
  return Buffer.allocUnsafeSlow(headroom + length).buffer;
}
