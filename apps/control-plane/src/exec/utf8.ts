import { isUtf8 } from 'node:buffer';

/** A piece of output: text, or bytes that are no text. */
export type Piece = { text: string } | { bytes: Buffer };

const nothing = Buffer.alloc(0);

/**
 * Cuts a stream of bytes into pieces, never inside a character: the start of one that is not yet whole waits
 * for the next push. The pieces together are the stream.
 */
export class Utf8Splitter {
  readonly #join: (held: Buffer, chunk: Buffer) => Buffer;
  #held: Buffer = nothing;

  /** @param join makes one of what is held, up to 3 bytes, and the chunk after it */
  constructor(join = (held: Buffer, chunk: Buffer): Buffer => Buffer.concat([held, chunk])) {
    this.#join = join;
  }

  push(chunk: Buffer): Buffer[] {
    const all = this.#held.length === 0 ? chunk : this.#join(this.#held, chunk);
    const whole = all.length - incompleteTail(all);
    this.#held = whole === all.length ? nothing : Buffer.from(all.subarray(whole));
    return whole === 0 ? [] : [all.subarray(0, whole)];
  }

  /** The bytes that are held back when the stream has ended: the start of a character that never came. */
  end(): Buffer[] {
    const rest = this.#held;
    this.#held = nothing;
    return rest.length === 0 ? [] : [rest];
  }
}

/** Bytes that are no UTF-8 stay bytes. */
export function toPiece(bytes: Buffer): Piece {
  return isUtf8(bytes) ? { text: bytes.toString('utf8') } : { bytes };
}

/** Length, 0 to 3, of the unfinished character that the bytes end with. */
export function incompleteTail(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] as number;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) {
      const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      return byte <= 0xf4 && byte >= 0xc2 && back < needed ? back : 0;
    }
  }
  return 0;
}
