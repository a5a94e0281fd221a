import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { differences } from '../../differences.ts';
import { readStore } from './read.ts';
import { changedDisk, runsOf, storeBytes, TestFiles } from './test-stores.ts';
import { writeStore } from './write.ts';

const diskBytes = 600 * 4096;
const spans = fc.array(
  fc.record({ from: fc.nat(599), length: fc.nat(400), byte: fc.integer({ min: 0, max: 2 }) }),
  { maxLength: 5 },
);

property.prop([spans, spans], { numRuns: 20 })(
  'two stores differ where only one has a chunk, or both have others',
  async (ours, theirs) => {
    await using files = new TestFiles();
    const both = [ours, theirs].map((list) => {
      const chunks = new Map<number, number>();
      for (const { from, length, byte } of list) {
        for (let chunk = from; chunk < Math.min(from + length, 600); chunk++) chunks.set(chunk, byte);
      }
      return chunks;
    });
    const stores = [];
    for (const chunks of both) {
      const changed = { chunks, diskBytes };
      const file = await files.file();
      await writeStore(
        file,
        diskBytes,
        runsOf(changed),
        await files.file(changedDisk(Buffer.alloc(0), changed)),
      );
      stores.push(await readStore(file, diskBytes));
    }
    const [one, other] = stores;
    if (!one || !other) throw new Error('There are two.');
    const found: number[] = [];
    let end = -1;
    for await (const { offset, length } of differences(one, other)) {
      expect(offset).toBeGreaterThan(end);
      end = offset + length;
      for (let at = offset; at < end; at += 4096) found.push(at / 4096);
    }
    const [first, second] = both;
    const expected = Array.from({ length: 600 }, (_, chunk) => chunk);
    expect(found).toEqual(expected.filter((chunk) => first?.get(chunk) !== second?.get(chunk)));
  },
);

test('stores with chunks of two sizes are compared', async () => {
  await using files = new TestFiles();
  // Chunk 3 of the file has the byte 3 in both; the second store has two more chunks of 4096 bytes than the first.
  const [one, other] = [
    await files.file(storeBytes({ exceptions: [[8, 3]] })),
    await files.file(storeBytes({ sectors: 32, exceptions: [[2, 3]] })),
  ];
  const found = [];
  const stores = [await readStore(one, diskBytes), await readStore(other, diskBytes)] as const;
  for await (const range of differences(...stores)) found.push(range);
  expect(found).toEqual([{ offset: 9 * 4096, length: 3 * 4096 }]);
});
