import { expect, test } from 'vitest';
import { decompressLegacyLz4 } from './lz4.ts';

function frame(block: number[]): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(0x184c2102, 0);
  header.writeUInt32LE(block.length, 4);
  return Buffer.concat([header, Buffer.from(block)]);
}

test('literals and overlapping matches are decompressed', () => {
  // "ab", then 6 bytes from 2 back, then the last literal "!".
  const block = [0x22, 0x61, 0x62, 0x02, 0x00, 0x10, 0x21];
  expect(decompressLegacyLz4(frame(block), 9).toString()).toBe('abababab!');
});

test('lengths of 15 and more continue in further bytes', () => {
  const block = [0xf0, 0xff, 0x05, ...Array<number>(275).fill(0x7a)];
  expect(decompressLegacyLz4(frame(block), 275).toString()).toBe('z'.repeat(275));
});

test.each([
  ['a match before the start', [0x10, 0x61, 0x05, 0x00, 0x10, 0x21]],
  ['more data than announced', [0x40, 0x61, 0x61, 0x61, 0x61]],
  ['an early end', [0xf0, 0xff]],
])('%s is refused', (_, block) => {
  expect(() => decompressLegacyLz4(frame(block), 3)).toThrow('LZ4');
});
