import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { OutputMemory } from './output-memory.ts';

/** A piece of output in memory of its own. */
function piece(memory: OutputMemory, bytes: Buffer): Buffer {
  const room = memory.allocate(bytes.length);
  bytes.copy(room);
  return room;
}

test.each([0, 1, 16_383, 16_384, 65_535, 65_536, 262_144, 262_145, 1_048_576])(
  'what is put before a piece of %i bytes, and that, are one',
  (length) => {
    const memory = new OutputMemory();
    const bytes = randomBytes(length);
    for (let turn = 0; turn < 4; turn++) {
      const held = randomBytes(turn);
      const both = memory.prepend(held, piece(memory, bytes));
      const message = memory.prepend(Buffer.of(turn), both);
      expect(message.equals(Buffer.concat([Buffer.of(turn), held, bytes]))).toBe(true);
      memory.free(message);
    }
  },
);

test('a piece of other memory leaves that as it is', () => {
  const memory = new OutputMemory();
  const all = randomBytes(100_000);
  const before = Buffer.from(all);
  const message = memory.prepend(Buffer.of(1), all.subarray(50_000));
  expect(message.equals(Buffer.concat([Buffer.of(1), before.subarray(50_000)]))).toBe(true);
  memory.free(message);
  expect(all.equals(before)).toBe(true);
});

test('a piece without room for what is put before it is copied', () => {
  const memory = new OutputMemory();
  const bytes = randomBytes(100_000);
  const ahead = randomBytes(5);
  expect(memory.prepend(ahead, piece(memory, bytes)).equals(Buffer.concat([ahead, bytes]))).toBe(true);
});

test('memory is used again when its message is sent, and not before', () => {
  const memory = new OutputMemory();
  const first = memory.prepend(Buffer.of(1), piece(memory, randomBytes(100_000)));
  const second = memory.allocate(100_000);
  expect(second.buffer).not.toBe(first.buffer);
  memory.free(first);
  expect(memory.allocate(200_000).buffer).toBe(first.buffer);
});

test.each([1, 16_384, 65_535, 65_536, 262_145])(
  'a piece of %i bytes takes no more than four times that, or what many share',
  (length) => {
    const memory = new OutputMemory();
    memory.free(memory.prepend(Buffer.of(1), memory.allocate(100_000)));
    const { byteLength } = memory.allocate(length).buffer;
    expect(byteLength).toBeLessThanOrEqual(Math.max(Buffer.poolSize, 4 * length + 4));
  },
);

test('no more is kept than a bound', () => {
  const memory = new OutputMemory();
  const messages = Array.from({ length: 20 }, () => memory.prepend(Buffer.of(1), memory.allocate(100_000)));
  for (const message of messages) memory.free(message);
  expect(messages.filter(({ buffer }) => !(buffer as ArrayBuffer).detached)).toHaveLength(16);
});
