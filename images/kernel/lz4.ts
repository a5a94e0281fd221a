const LEGACY_MAGIC = 0x184c2102;
const LEGACY_BLOCK = 8 * 1024 * 1024;

/**
 * Decompresses LZ4's legacy frame, the one that Linux uses for its own image.
 * Format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md#legacy-frame
 * @param size length of the decompressed data in bytes
 */
export function decompressLegacyLz4(input: Buffer, size: number): Buffer {
  if (input.readUInt32LE(0) !== LEGACY_MAGIC) throw new Error('not a legacy LZ4 frame');
  const output = Buffer.alloc(size);
  let at = 4;
  let written = 0;
  while (at + 4 <= input.length && written < size) {
    const length = input.readUInt32LE(at);
    at += 4;
    const end = Math.min(written + LEGACY_BLOCK, size);
    written = decompressBlock(input.subarray(at, at + length), output, written, end);
    at += length;
  }
  if (written !== size) throw new Error(`LZ4 data ends after ${written} of ${size} bytes`);
  return output;
}

/** Decompresses one block into `output` from `start`, and gives where it ended. */
function decompressBlock(input: Buffer, output: Buffer, start: number, limit: number): number {
  let from = 0;
  let to = start;
  const byte = (): number => {
    const value = input[from++];
    if (value === undefined) throw new Error('LZ4 block ends early');
    return value;
  };
  const lengthFrom = (nibble: number): number => {
    let length = nibble;
    if (nibble === 15) {
      let more: number;
      do {
        more = byte();
        length += more;
      } while (more === 255);
    }
    return length;
  };
  while (from < input.length) {
    const token = byte();
    const literals = lengthFrom(token >> 4);
    if (to + literals > limit) throw new Error('LZ4 block is too long');
    input.copy(output, to, from, from + literals);
    from += literals;
    to += literals;
    if (from >= input.length) break;
    const offset = byte() | (byte() << 8);
    const length = lengthFrom(token & 15) + 4;
    const source = to - offset;
    if (offset === 0 || source < 0 || to + length > limit) throw new Error('LZ4 match is out of range');
    if (offset >= length) output.copyWithin(to, source, source + length);
    else for (let i = 0; i < length; i++) output[to + i] = output[source + i] ?? 0;
    to += length;
  }
  return to;
}
