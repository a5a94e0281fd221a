import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect } from 'vitest';
import { differences } from '../../differences.ts';
import { StoreDamaged } from './damaged.ts';
import { flattenStore } from './flatten.ts';
import { readStore } from './read.ts';
import { storeBytes, TestFiles } from './test-stores.ts';
import { writeStore } from './write.ts';

/** 512 chunks. */
const diskBytes = 512 * 4096;
const valid = storeBytes({
  exceptions: Array.from({ length: 300 }, (_, i) => [(i + 100) % 300, 2 + i + (i < 256 ? 0 : 1)] as const),
});

/** The header, and both areas: data may be anything. */
const places = fc.oneof(
  fc.nat(15),
  fc.integer({ min: 4096, max: 8191 }),
  fc.nat(4095).map((at) => 258 * 4096 + at),
);
const word = fc.oneof(fc.bigInt({ min: 0n, max: 700n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
const bytesThere = fc.tuple(places, fc.nat(255)).map(([at, byte]) => ({ at, bytes: Buffer.of(byte) }));
const wordsThere = fc.tuple(places, word).map(([at, value]) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return { at: at & ~7, bytes };
});
const changes = fc.array(fc.oneof(bytesThere, wordsThere), { maxLength: 4 });
const lengths = fc.oneof(fc.constant(valid.length), fc.nat(valid.length));

/** Everything that is done with a store, on one of these bytes. */
async function use(bytes: Buffer): Promise<void> {
  await using files = new TestFiles();
  const file = await files.file(bytes);
  const store = await readStore(file, diskBytes);
  let end = 0;
  for (const { offset, length, at } of store.runs()) {
    expect(offset).toBeGreaterThanOrEqual(end);
    expect(length).toBeGreaterThan(0);
    end = offset + length;
    expect(end).toBeLessThanOrEqual(diskBytes);
    expect(at).toBeGreaterThan(store.chunkBytes);
    expect(at + length).toBeLessThanOrEqual(bytes.length);
  }
  await flattenStore(await files.file(), store, await files.file());
  await writeStore(await files.file(), diskBytes, store.runs(), file);
  for await (const _ of differences(store, store)) expect.fail('It differs from itself.');
}

property.prop([changes, lengths], { numRuns: 80 })(
  'a damaged store is a store that can be used, or a precise error',
  async (all, length) => {
    const damaged = Buffer.from(valid);
    for (const { at, bytes } of all) bytes.copy(damaged, at);
    const outcome = await use(damaged.subarray(0, length)).catch((error: unknown) => error);
    if (outcome !== undefined) expect(outcome).toBeInstanceOf(StoreDamaged);
  },
);
