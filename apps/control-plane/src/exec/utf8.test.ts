import { isUtf8 } from 'node:buffer';
import { fc, test } from '@fast-check/vitest';
import { expect } from 'vitest';
import { type Piece, toPiece, Utf8Splitter } from './utf8.ts';

function split(chunks: Buffer[]): Piece[] {
  const splitter = new Utf8Splitter();
  return [...chunks.flatMap((chunk) => splitter.push(chunk)), ...splitter.end()].map(toPiece);
}

function cut(bytes: Buffer, sizes: number[]): Buffer[] {
  const chunks: Buffer[] = [];
  let at = 0;
  for (const size of sizes) {
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return [...chunks, bytes.subarray(at)];
}

const sizes = fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 60 });
const anyText = fc.string({ unit: 'binary', maxLength: 80 }).filter((text) => text.isWellFormed());

test.prop([anyText, sizes])('text comes out as text, wherever it was cut', (text, where) => {
  const pieces = split(cut(Buffer.from(text), where));
  expect(pieces.every((piece) => 'text' in piece)).toBe(true);
  expect(pieces.map((piece) => ('text' in piece ? piece.text : '')).join('')).toBe(text);
});

test.prop([fc.uint8Array({ maxLength: 200 }), sizes])(
  'no byte is lost, added or replaced',
  (bytes, where) => {
    const pieces = split(cut(Buffer.from(bytes), where));
    const joined = pieces.map((piece) => ('text' in piece ? Buffer.from(piece.text) : piece.bytes));
    expect(Buffer.concat(joined)).toEqual(Buffer.from(bytes));
  },
);

test.prop([fc.uint8Array({ maxLength: 50 }), sizes])('what is called bytes is no text', (bytes, where) => {
  for (const piece of split(cut(Buffer.from(bytes), where))) {
    if ('bytes' in piece) expect(isUtf8(piece.bytes)).toBe(false);
  }
});

test('at most three bytes are held back', () => {
  const splitter = new Utf8Splitter();
  expect(splitter.push(Buffer.from([0xf0, 0x9f, 0xa6]))).toEqual([]);
  expect(splitter.push(Buffer.from([0x9c]))).toEqual([Buffer.from('🦜')]);
});
