import { expect, test } from 'vitest';
import { StoreDamaged } from './damaged.ts';
import { readStore } from './read.ts';
import { type StoreFacts, storeBytes, TestFiles } from './test-stores.ts';

/** 400 chunks of 4096 bytes. */
const diskBytes = 400 * 4096;

async function read(facts: StoreFacts, disk = diskBytes) {
  await using files = new TestFiles();
  const store = await readStore(await files.file(storeBytes(facts)), disk);
  const { chunks, chunkBytes, usedBytes } = store;
  return { chunks, chunkBytes, usedBytes, runs: [...store.runs()], changed: [...store.changedRanges()] };
}

test('a store without exceptions changes nothing, and goes on behind its first area', async () => {
  expect(await read({})).toEqual({
    ...{ chunks: 0, chunkBytes: 4096, usedBytes: 2 * 4096 },
    ...{ runs: [], changed: [] },
  });
});

test('exceptions in any order become ascending runs, as long as disk and file go on', async () => {
  const exceptions = [
    [20, 2],
    [10, 3],
    [11, 4],
    [12, 6],
    [21, 5],
  ] as const;
  const { runs, changed, usedBytes } = await read({ exceptions });
  expect(runs).toEqual([
    { offset: 10 * 4096, length: 2 * 4096, at: 3 * 4096 },
    { offset: 12 * 4096, length: 4096, at: 6 * 4096 },
    { offset: 20 * 4096, length: 4096, at: 2 * 4096 },
    { offset: 21 * 4096, length: 4096, at: 5 * 4096 },
  ]);
  expect(changed).toEqual([
    { offset: 10 * 4096, length: 3 * 4096 },
    { offset: 20 * 4096, length: 2 * 4096 },
  ]);
  expect(usedBytes).toBe(7 * 4096);
});

test.each([
  [255, 257],
  // The area that is full has an empty one behind it, at chunk 258.
  [256, 259],
  [257, 260],
])('%i exceptions fill areas between their data, and the kernel goes on at chunk %i', async (count, next) => {
  const exceptions = Array.from({ length: count }, (_, i) => [i, 2 + i + (i < 256 ? 0 : 1)] as const);
  const { chunks, changed, usedBytes } = await read({ exceptions });
  expect(chunks).toBe(count);
  expect(changed).toEqual([{ offset: 0, length: count * 4096 }]);
  expect(usedBytes).toBe(next * 4096);
});

test.each([8, 64, 1024])('chunks of %i sectors are read', async (sectors) => {
  const chunkBytes = sectors * 512;
  const read1 = await read({ sectors, exceptions: [[1, 3]] }, 4 * chunkBytes);
  expect(read1.runs).toEqual([{ offset: chunkBytes, length: chunkBytes, at: 3 * chunkBytes }]);
});

test('the last chunk of a disk is no longer than the disk', async () => {
  const { runs } = await read({ exceptions: [[2, 2]] }, 2 * 4096 + 512);
  expect(runs).toEqual([{ offset: 2 * 4096, length: 512, at: 2 * 4096 }]);
});

test('the list ends where the kernel ends it, whatever follows', async () => {
  const exceptions = [
    [1, 2],
    [7, 0],
    [1, 1],
  ] as const;
  expect(await read({ exceptions })).toMatchObject({ chunks: 1, usedBytes: 3 * 4096 });
});

/** As many as fill an area, and the chunks of data behind it. */
const full = Array.from({ length: 256 }, (_, i) => [i, 2 + i] as const);

test.each<[string, StoreFacts, string]>([
  ['another magic', { magic: 0 }, 'is none: it does not begin with SnAp'],
  ['another version', { version: 2 }, 'has version 2, not 1'],
  ['a header that says invalid', { valid: 0 }, 'was given up by the kernel'],
  ['chunks of no size', { sectors: 0 }, 'has chunks of 0 bytes'],
  ['chunks that are too small', { sectors: 4 }, 'has chunks of 2048 bytes'],
  ['chunks that are no power of 2', { sectors: 24 }, 'has chunks of 12288 bytes'],
  ['chunks that are too large', { sectors: 2048, chunks: 1 }, 'has chunks of 1048576 bytes'],
  ['no bytes', { chunks: 0 }, 'ends at 0, too early'],
  ['no area', { chunks: 1 }, 'ends before its area 0 of exceptions'],
  ['no area behind a full one', { exceptions: full, chunks: 258 }, 'ends before its area 1 of exceptions'],
  ['a chunk beyond the disk', { exceptions: [[400, 2]] }, 'for chunk 400 of a disk with 400'],
  ['a huge chunk of the disk', { exceptions: [[2n ** 63n, 2]] }, 'for chunk 9223372036854775808 of a disk'],
  ['a chunk beyond the file', { exceptions: [[1, 5]], chunks: 5 }, 'in its chunk 5, of 5'],
  ['a huge chunk of the file', { exceptions: [[1, 2n ** 40n]] }, 'in its chunk 1099511627776, of 2'],
  ['a chunk that is an area', { exceptions: [[1, 1]] }, 'in its chunk 1, which holds exceptions itself'],
  [
    'a chunk that is a later area',
    { exceptions: [[1, 258]] },
    'in its chunk 258, which holds exceptions itself',
  ],
  [
    'a chunk of the disk twice',
    {
      exceptions: [
        [9, 2],
        [9, 3],
      ],
    },
    'two exceptions for chunk 9',
  ],
  [
    'a chunk of the file twice',
    {
      exceptions: [
        [9, 2],
        [8, 2],
      ],
    },
    'two exceptions in its chunk 2',
  ],
])('a store with %s is refused', async (_, facts, problem) => {
  const reading = read(facts);
  await expect(reading).rejects.toThrow(StoreDamaged);
  await expect(reading).rejects.toThrow(problem);
});

test('a file that is long by holes costs no more than a short one', async () => {
  await using files = new TestFiles();
  const file = await files.file(storeBytes({ exceptions: full }));
  await file.truncate(8 * 2 ** 40);
  expect((await readStore(file, diskBytes)).chunks).toBe(256);
});

test.each([0, -512, 511, 0.5, Number.NaN, 2 ** 43])('%d bytes are no size of a disk', async (size) => {
  await expect(read({}, size)).rejects.toThrow(RangeError);
});
