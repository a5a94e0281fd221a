import { describe, expect, test } from 'vitest';
import { SnapshotDamaged } from './damaged.ts';
import { decodeHeader, encodeHeader, type MemoryHeader } from './header.ts';
import { pageBytes } from './mapping.ts';
import { createMapping, type DirtyRun, mergeMapping } from './merge.ts';
import { build, damage, fc, property, randomBytes } from './testing.ts';

const pages = 64;
const memoryBytes = pages * pageBytes;

const diffRuns = fc.array(fc.option(fc.nat(500)), { maxLength: pages }).map((list) =>
  list.flatMap((stored, page): DirtyRun[] =>
    stored === null
      ? []
      : [
          {
            offset: page * pageBytes,
            length: pageBytes,
            storageOffset: stored === 0 ? null : stored * pageBytes,
          },
        ],
  ),
);
const mappings = fc
  .array(diffRuns, { maxLength: 5 })
  .map((diffs) =>
    diffs.reduce(
      (mapping, runs, index) => mergeMapping(mapping, { build: build(0xabc0000 + index * 7), runs }),
      createMapping(memoryBytes),
    ),
  );
const headers: fc.Arbitrary<MemoryHeader> = fc.record({
  generation: fc.maxSafeNat(),
  build: fc.constant('0123456789abcdef0123456789abcdef'),
  baseBuild: fc.constant(build(0xabc0000)),
  mapping: mappings,
});

const plain = (header: MemoryHeader) => ({
  ...header,
  mapping: { memoryBytes: header.mapping.memoryBytes, entries: [...header.mapping] },
});

property.prop([headers])('a header is read as it was written', (header) => {
  expect(plain(decodeHeader(encodeHeader(header)))).toEqual(plain(header));
});

test('the bytes are those of the format', () => {
  const mapping = createMapping(2 * pageBytes, {
    build: '0123456789abcdef0123456789abcdef',
    runs: [{ offset: 0, length: pageBytes, storageOffset: 0x123_0000_0000 }],
  });
  const bytes = encodeHeader({
    generation: 7,
    build: '0123456789abcdef0123456789abcdef',
    baseBuild: build(9),
    mapping,
  });
  const u64 = (value: string) => Buffer.from(value.padStart(16, '0'), 'hex').reverse().toString('hex');
  expect(bytes.toString('hex')).toBe(
    [
      u64('1') + u64('1000') + u64('2000') + u64('7'),
      `0123456789abcdef0123456789abcdef${build(9)}`,
      `${u64('0')}${u64('1000')}0123456789abcdef0123456789abcdef${u64('12300000000')}`,
      `${u64('1000')}${u64('1000')}${'00'.repeat(16)}${u64('0')}`,
    ].join(''),
  );
});

describe('a header that is not one', () => {
  const entry = (offset: bigint, length: bigint, id = build(1), storage = 0n) => ({
    offset,
    length,
    id,
    storage,
  });
  function make(
    entries: ReturnType<typeof entry>[],
    head: Partial<Record<'version' | 'blockSize' | 'memory' | 'generation', bigint>> & {
      id?: string;
      base?: string;
    } = {},
  ): Buffer {
    const bytes = Buffer.alloc(64 + entries.length * 40);
    [head.version ?? 1n, head.blockSize ?? 4096n, head.memory ?? 8192n, head.generation ?? 0n].forEach(
      (value, index) => void bytes.writeBigUInt64LE(value, index * 8),
    );
    bytes.write(head.id ?? build(1), 32, 'hex');
    bytes.write(head.base ?? build(1), 48, 'hex');
    entries.forEach(({ offset, length, id, storage }, index) => {
      const at = 64 + index * 40;
      bytes.writeBigUInt64LE(offset, at);
      bytes.writeBigUInt64LE(length, at + 8);
      bytes.write(id, at + 16, 'hex');
      bytes.writeBigUInt64LE(storage, at + 32);
    });
    return bytes;
  }
  const whole = [entry(0n, 8192n)];

  test('differs in one thing from this, which is one', () => {
    expect([...decodeHeader(make(whole)).mapping]).toHaveLength(1);
  });

  const huge = 2n ** 63n;
  test.each<[string, Buffer, RegExp]>([
    ['nothing', Buffer.alloc(0), /has 0 bytes/],
    ['another version', make(whole, { version: 2n }), /version 2/],
    ['a version beyond numbers', make(whole, { version: huge + 1n }), /version/],
    ['another block size', make(whole, { blockSize: 2048n }), /block size/],
    ['no memory', make([], { memory: 0n }), /memory of 0/],
    ['a memory of part of a page', make(whole, { memory: 8191n }), /memory of 8191/],
    ['a memory beyond all machines', make([entry(0n, 2n ** 50n)], { memory: 2n ** 50n }), /memory of/],
    ['a generation beyond numbers', make(whole, { generation: 2n ** 53n }), /generation/],
    ['no build', make(whole, { id: '0'.repeat(32) }), /no build id/],
    ['no base build', make(whole, { base: '0'.repeat(32) }), /no base build id/],
    ['no entries', make([]), /covers 0 of 8192/],
    ['half an entry', make(whole).subarray(0, 90), /ends within entry 0/],
    ['a gap at the start', make([entry(4096n, 4096n)]), /entry 0 at 4096, where 0 is due/],
    ['a gap at the end', make([entry(0n, 4096n)]), /covers 4096 of 8192/],
    ['an overlap', make([entry(0n, 8192n), entry(4096n, 4096n)]), /entry 1 at 4096, where 8192/],
    ['entries out of order', make([entry(4096n, 4096n), entry(0n, 4096n)]), /entry 0/],
    ['an empty entry', make([entry(0n, 0n), ...whole]), /entry 0 of 0 bytes/],
    ['an entry past the memory', make([entry(0n, 12_288n)]), /entry 0 of 12288/],
    ['an entry past all memory', make([entry(0n, huge)]), /entry 0/],
    ['an entry of part of a page', make([entry(0n, 100n), entry(100n, 8092n)]), /entry 0 of 100/],
    ['storage within a page', make([entry(0n, 8192n, build(1), 100n)]), /stored at 100/],
    ['storage beyond all files', make([entry(0n, 8192n, build(1), huge)]), /stored at/],
  ])('%s', (_, bytes, message) => {
    expect(() => decodeHeader(bytes)).toThrow(SnapshotDamaged);
    expect(() => decodeHeader(bytes)).toThrow(message);
  });

  test('names more builds than any chain has', () => {
    const count = 5000;
    const many = Array.from({ length: count }, (_, index) =>
      entry(BigInt(index) * 4096n, 4096n, build(index + 1)),
    );
    expect(() => decodeHeader(make(many, { memory: BigInt(count) * 4096n }))).toThrow(
      /more than 4096 builds/,
    );
  });

  test('is not made by what zeros say of their storage, nor by entries that could be one', () => {
    const zeros = '0'.repeat(32);
    const split = [entry(0n, 4096n, zeros, huge + 3n), entry(4096n, 4096n, zeros, 77n)];
    expect([...decodeHeader(make(split)).mapping]).toEqual([
      { offset: 0, length: 8192, build: null, storageOffset: 0 },
    ]);
  });
});

describe('whatever the bytes are, a header is read or refused as damaged', () => {
  const valid = encodeHeader({
    generation: 3,
    build: build(2),
    baseBuild: build(1),
    mapping: mergeMapping(
      createMapping(memoryBytes, {
        build: build(1),
        runs: [{ offset: 0, length: memoryBytes, storageOffset: 0 }],
      }),
      {
        build: build(2),
        runs: [
          { offset: pageBytes, length: pageBytes, storageOffset: 0 },
          { offset: 4 * pageBytes, length: pageBytes, storageOffset: null },
        ],
      },
    ),
  });
  property.prop([fc.oneof(randomBytes, damage(valid))], { numRuns: 2000 })(
    'and covers its memory',
    (bytes) => {
      try {
        const { mapping } = decodeHeader(bytes);
        expect(
          [...mapping].reduce((end, { offset, length }) => (offset === end ? end + length : Number.NaN), 0),
        ).toBe(mapping.memoryBytes);
      } catch (error) {
        if (!(error instanceof SnapshotDamaged)) throw error;
      }
    },
  );
});

test('100,000 entries are read and written', () => {
  const count = 50_000;
  const runs = Array.from({ length: count }, (_, index) => ({
    offset: 2 * index * pageBytes,
    length: pageBytes,
    storageOffset: index * pageBytes,
  }));
  const mapping = createMapping(2 * count * pageBytes, { build: build(1), runs });
  const header = { generation: 0, build: build(1), baseBuild: build(1), mapping };
  const bytes = encodeHeader(header);
  expect(mapping.length).toBe(2 * count);
  expect(encodeHeader(decodeHeader(bytes))).toEqual(bytes);
});

/** One look-up that walks through all builds before it takes minutes here. */
test('builds that begin alike are told apart without comparing each with all', { timeout: 30_000 }, () => {
  const [builds, entries] = [4096, 1_600_000];
  const bytes = Buffer.alloc(64 + entries * 40);
  const head = [1n, 4096n, BigInt(entries * pageBytes), 0n];
  for (const [i, value] of head.entries()) bytes.writeBigUInt64LE(value, i * 8);
  bytes.write(build(1), 32, 'hex');
  bytes.write(build(1), 48, 'hex');
  for (let i = 0; i < entries; i++) {
    const at = 64 + i * 40;
    bytes.writeBigUInt64LE(BigInt(i * pageBytes), at);
    bytes.writeBigUInt64LE(BigInt(pageBytes), at + 8);
    bytes.write(build(1 + (i % builds)), at + 16, 'hex');
  }
  expect(decodeHeader(bytes).mapping.builds).toHaveLength(builds);
});
