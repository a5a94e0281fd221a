import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { StoredRun } from '../../ranges.ts';
import { flattenStore } from './flatten.ts';
import { fullStoreBytes } from './format.ts';
import { readStore } from './read.ts';
import {
  bytesOf,
  type Changed,
  changedDisk,
  KiB,
  MiB,
  runsOf,
  storeBytes,
  TestFiles,
} from './test-stores.ts';
import { writeStore } from './write.ts';

/** Disks of up to 700 chunks, so that stores have up to three areas; a zero is a hole. */
const changes = fc
  .record({
    diskSectors: fc.integer({ min: 1, max: 700 * 8 }),
    spans: fc.array(fc.record({ from: fc.nat(699), length: fc.nat(300), byte: fc.nat(255) }), {
      maxLength: 6,
    }),
    baseSectors: fc.nat(700 * 8),
  })
  .map(({ diskSectors, spans, baseSectors }) => {
    const chunks = new Map<number, number>();
    const diskBytes = diskSectors * 512;
    for (const { from, length, byte } of spans) {
      for (let chunk = from; chunk < from + length; chunk++) {
        if (chunk * 4096 < diskBytes) chunks.set(chunk, byte);
      }
    }
    const base = Buffer.alloc(Math.min(baseSectors * 512, diskBytes));
    for (let at = 0; at < base.length; at += 192 * KiB) base.subarray(at, at + 64 * KiB).fill(251);
    return { changed: { chunks, diskBytes } satisfies Changed, base };
  });

/** A store of the changes, written and read again. */
async function stored(files: TestFiles, changed: Changed) {
  const raw = await files.file(changedDisk(Buffer.alloc(0), changed));
  const file = await files.file();
  await writeStore(file, changed.diskBytes, runsOf(changed), raw);
  return await readStore(file, changed.diskBytes);
}

property.prop([changes], { numRuns: 25 })(
  'a store is read as it was written, and flattened to the disk that it is',
  async ({ changed, base }) => {
    await using files = new TestFiles();
    const store = await stored(files, changed);
    expect(store.chunks).toBe(changed.chunks.size);
    expect((await store.file.stat()).size).toBe(fullStoreBytes(changed.diskBytes));
    const ranges = [...store.changedRanges()];
    const found = ranges.flatMap(({ offset, length }) =>
      Array.from({ length: Math.ceil(length / 4096) }, (_, i) => offset / 4096 + i),
    );
    expect(found).toEqual([...changed.chunks.keys()].sort((a, b) => a - b));
    const flat = await files.file();
    await flattenStore(await files.file(base), store, flat);
    expect((await bytesOf(flat)).equals(changedDisk(base, changed))).toBe(true);
  },
);

property.prop([changes], { numRuns: 12 })(
  'the runs of a store make a store that is the same',
  async ({ changed }) => {
    await using files = new TestFiles();
    const first = await stored(files, changed);
    const again = await files.file();
    await writeStore(again, changed.diskBytes, first.runs(), first.file);
    expect((await bytesOf(again)).equals(await bytesOf(first.file))).toBe(true);
  },
);

test('a flattened disk occupies what base and store have, and holes of the store hide the base', async () => {
  await using files = new TestFiles();
  const diskBytes = 512 * MiB;
  const base = await files.file();
  await base.write(Buffer.alloc(2 * MiB, 1), 0, 2 * MiB, 100 * MiB);
  const raw = await files.file();
  await raw.write(Buffer.alloc(MiB, 2), 0, MiB, 300 * MiB);
  const file = await files.file();
  const runs = [100, 300].map((at) => ({ offset: at * MiB, length: MiB, at: at * MiB }));
  await writeStore(file, diskBytes, runs, raw);
  const flat = await files.file();
  await flattenStore(base, await readStore(file, diskBytes), flat);
  const { size, blocks } = await flat.stat();
  expect(size).toBe(diskBytes);
  expect(blocks * 512).toBeLessThan(2 * MiB + 128 * KiB);
  const at = async (offset: number) => (await flat.read(Buffer.alloc(1), 0, 1, offset)).buffer[0];
  expect([await at(100 * MiB), await at(101 * MiB), await at(300 * MiB)]).toEqual([0, 1, 2]);
});

test('more chunks than are kept in mind come to their places, wherever they are in the store', async () => {
  await using files = new TestFiles();
  const diskChunks = 9000;
  // 4500 chunks of the disk, each beside one of the base, in an order that goes back and forth.
  const exceptions = Array.from({ length: 4500 }, (_, i) => {
    return [((i * 1009) % 4500) * 2, 2 + i + Math.floor(i / 256)] as const;
  });
  const base = Buffer.alloc(diskChunks * 4096, 255);
  const expected = Buffer.from(base);
  for (const [old, chunk] of exceptions) expected.fill(chunk & 255, old * 4096, (old + 1) * 4096);
  const store = await readStore(await files.file(storeBytes({ exceptions })), base.length);
  const flat = await files.file();
  await flattenStore(await files.file(base), store, flat);
  expect((await bytesOf(flat)).equals(expected)).toBe(true);
});

test.each<[string, StoredRun[]]>([
  ['half a chunk', [{ offset: 0, length: 2048, at: 0 }]],
  ['a chunk from its middle on', [{ offset: 512, length: 4096, at: 0 }]],
  ['nothing', [{ offset: 0, length: 0, at: 0 }]],
  ['more than the disk', [{ offset: 60 * KiB, length: 8192, at: 0 }]],
  [
    'a chunk twice',
    [
      { offset: 4096, length: 4096, at: 0 },
      { offset: 4096, length: 4096, at: 4096 },
    ],
  ],
  [
    'chunks that descend',
    [
      { offset: 8192, length: 4096, at: 0 },
      { offset: 4096, length: 4096, at: 4096 },
    ],
  ],
])('a store cannot have %s, and is none then', async (_, runs) => {
  await using files = new TestFiles();
  const file = await files.file();
  await expect(writeStore(file, 64 * KiB, runs, await files.file())).rejects.toThrow(RangeError);
  await expect(readStore(file, 64 * KiB)).rejects.toThrow('is none');
});

test('a base that is larger than the disk is not flattened', async () => {
  await using files = new TestFiles();
  const store = await stored(files, { chunks: new Map([[0, 1]]), diskBytes: 8192 });
  const flattening = flattenStore(await files.file(Buffer.alloc(8704)), store, await files.file());
  await expect(flattening).rejects.toThrow(/smaller than its base/);
});

test('what is given up says what it was given up with', async () => {
  await using files = new TestFiles();
  const changed = { chunks: new Map([[0, 1]]), diskBytes: 8192 };
  const store = await stored(files, changed);
  const signal = AbortSignal.abort(new Error('enough'));
  const [base, to] = [await files.file(), await files.file()];
  await expect(flattenStore(base, store, to, signal)).rejects.toThrow('enough');
  const writing = writeStore(await files.file(), 8192, store.runs(), store.file, signal);
  await expect(writing).rejects.toThrow('enough');
});
