import { describe, expect, test } from 'vitest';
import { decodeHeader, encodeHeader } from './header.ts';
import { Mapping, type MappingEntry, pageBytes } from './mapping.ts';
import { createMapping, type Diff, type DirtyRun, mergeMapping } from './merge.ts';
import { build, fc, property } from './testing.ts';

const memoryPages = 48;
const memoryBytes = memoryPages * pageBytes;

/** Contents of a page: the byte it is full of. 0 is a page of zeros. */
type Page = number;
/** The act of one generation on each page: leave it (null), or fill it, perhaps with zeros. */
const generation = fc.array(fc.option(fc.nat(3)), { minLength: memoryPages, maxLength: memoryPages });
/** Long chains, and what each does to few pages or to many. */
const generations = fc.array(generation, { minLength: 1, maxLength: 40, size: 'max' });

/** Every other build has one run a page, which the mapping joins; the others have theirs joined. */
function toDiff(changes: (Page | null)[], number: number): { diff: Diff; memfile: Page[] } {
  const memfile: Page[] = [];
  const runs: DirtyRun[] = [];
  for (const [index, page] of changes.entries()) {
    if (page === null) continue;
    const offset = index * pageBytes;
    const storageOffset = page === 0 ? null : (memfile.push(page) - 1) * pageBytes;
    const last = runs.at(-1);
    // Stored pages are stored in order: of two neighbours that are stored the second follows the first.
    const sameKind = (last?.storageOffset === null) === (storageOffset === null);
    const continues = last && last.offset + last.length === offset && sameKind;
    if (continues && number % 2 === 0) last.length += pageBytes;
    else runs.push({ offset, length: pageBytes, storageOffset });
  }
  return { diff: { build: build(number), runs }, memfile };
}

function chain(history: (Page | null)[][]) {
  const memory: Page[] = Array(memoryPages).fill(0);
  const memfiles = new Map<string, Page[]>();
  const owners: (number | null)[] = Array(memoryPages).fill(null);
  let mapping: Mapping | undefined;
  for (const [index, changes] of history.entries()) {
    const { diff, memfile } = toDiff(changes, index + 1);
    memfiles.set(diff.build, memfile);
    changes.forEach((page, at) => {
      if (page === null) return;
      memory[at] = page;
      owners[at] = page === 0 ? null : index + 1;
    });
    mapping = mapping ? mergeMapping(mapping, diff) : createMapping(memoryBytes, diff);
  }
  return { mapping: mapping as Mapping, memory, memfiles, owners };
}

const contents = (entry: MappingEntry, memfiles: Map<string, Page[]>): Page | undefined =>
  entry.build === null ? 0 : memfiles.get(entry.build)?.[entry.storageOffset / pageBytes];

describe('a mapping over many generations', () => {
  property.prop([generations])('gives every page what was written to it last', (history) => {
    const { mapping, memory, memfiles, owners } = chain(history);
    for (let page = 0; page < memoryPages; page++) {
      const entry = mapping.find(page * pageBytes);
      expect(contents(entry, memfiles)).toBe(memory[page]);
      const owner = owners[page];
      expect(entry.build).toBe(owner ? build(owner) : null);
    }
  });

  property.prop([generations])('covers the memory, sorted, and joins what continues', (history) => {
    const { mapping } = chain(history);
    let end = 0;
    let last: MappingEntry | undefined;
    for (const entry of mapping) {
      expect(entry.offset).toBe(end);
      expect(entry.length).toBeGreaterThan(0);
      const continues =
        last?.build === entry.build &&
        (entry.build === null || last.storageOffset + last.length === entry.storageOffset);
      expect(continues).toBe(false);
      end += entry.length;
      last = entry;
    }
    expect(end).toBe(memoryBytes);
  });

  property.prop([generations])('is the same when each generation was read from its file', (history) => {
    const kept = chain(history).mapping;
    let mapping = createMapping(memoryBytes);
    for (const [index, changes] of history.entries()) {
      const { diff } = toDiff(changes, index + 1);
      const merged = mergeMapping(mapping, diff);
      const header = { generation: index, build: diff.build, baseBuild: build(1), mapping: merged };
      mapping = decodeHeader(encodeHeader(header)).mapping;
    }
    expect([...mapping]).toEqual([...kept]);
  });

  property.prop([generations])('names the builds that it needs, and no others', (history) => {
    const { mapping, owners } = chain(history);
    const needed = new Set(owners.flatMap((owner) => (owner ? [build(owner)] : [])));
    expect(new Set(mapping.builds)).toEqual(needed);
    for (const [id, bytes] of mapping.bytesByBuild()) {
      expect(bytes).toBe(owners.filter((owner) => owner && build(owner) === id).length * pageBytes);
    }
  });

  property.prop([generations, fc.nat(memoryBytes - 1)])(
    'finds any byte, and the rest of its entry',
    (history, at) => {
      const { mapping } = chain(history);
      const found = mapping.find(at);
      const whole = [...mapping].find(
        ({ offset, length }) => offset <= at && at < offset + length,
      ) as MappingEntry;
      expect(found).toEqual({
        offset: at,
        length: whole.offset + whole.length - at,
        build: whole.build,
        storageOffset: whole.build === null ? 0 : whole.storageOffset + at - whole.offset,
      });
    },
  );
});

test('a page that the guest made zeros after the parent does not come back', () => {
  const parent = createMapping(memoryBytes, {
    build: build(1),
    runs: [{ offset: 0, length: memoryBytes, storageOffset: 0 }],
  });
  const runs = [{ offset: 3 * pageBytes, length: pageBytes, storageOffset: null }];
  const child = mergeMapping(parent, { build: build(2), runs });
  expect([...child].map(({ build, storageOffset }) => [build, storageOffset])).toEqual([
    [build(1), 0],
    [null, 0],
    [build(1), 4 * pageBytes],
  ]);
});

describe('a merge refuses', () => {
  const parent = createMapping(memoryBytes, {
    build: build(1),
    runs: [{ offset: 0, length: pageBytes, storageOffset: 0 }],
  });
  const run = (offset: number, length = pageBytes, storageOffset: number | null = 0): DirtyRun => ({
    offset,
    length,
    storageOffset,
  });
  const refused: [string, string, DirtyRun[]][] = [
    ['a build that the parent has', build(1), [run(0)]],
    ['a build without a name', '0'.repeat(32), [run(0)]],
    ['what is not a build', 'template', [run(0)]],
    ['runs that overlap', build(2), [run(0, 2 * pageBytes), run(pageBytes)]],
    ['runs out of order', build(2), [run(pageBytes), run(0)]],
    ['an empty run', build(2), [run(0, 0)]],
    ['half a page', build(2), [run(0, 100)]],
    ['an offset within a page', build(2), [run(100)]],
    ['a run past the end', build(2), [run(memoryBytes - pageBytes, 2 * pageBytes)]],
    ['a negative offset', build(2), [run(-pageBytes)]],
    ['what is not a number', build(2), [run(Number.NaN)]],
    ['storage within a page', build(2), [run(0, pageBytes, 5)]],
    ['storage beyond all files', build(2), [run(0, pageBytes, 2 ** 53)]],
    ['storage before all files', build(2), [run(0, pageBytes, -pageBytes)]],
  ];
  test.each(refused)('%s', (_, id, runs) => {
    expect(() => mergeMapping(parent, { build: id, runs })).toThrow(RangeError);
  });

  test.each([0, -4096, 100, Number.NaN, 2 ** 41])('a memory of %d bytes', (bytes) => {
    expect(() => createMapping(bytes)).toThrow(RangeError);
  });
});

test('a look-up outside of the memory is refused', () => {
  const mapping = createMapping(memoryBytes);
  for (const at of [-1, memoryBytes, Number.NaN]) expect(() => mapping.find(at)).toThrow(RangeError);
});

/** How often the elements of an array are read. */
function counted(array: Float64Array): { array: Float64Array; reads: () => number } {
  let reads = 0;
  const get = (target: Float64Array, key: string | symbol): unknown => {
    if (typeof key === 'string' && /^\d+$/.test(key)) reads++;
    const value: unknown = Reflect.get(target, key, target);
    return typeof value === 'function' ? value.bind(target) : value;
  };
  return { array: new Proxy(array, { get }), reads: () => reads };
}

test('a merge looks at each entry a few times, however many there are and however large the memory is', () => {
  const dirty = (count: number): DirtyRun[] =>
    Array.from({ length: count }, (_, index) => ({
      offset: 2 * index * pageBytes,
      length: pageBytes,
      storageOffset: index * pageBytes,
    }));
  const merge = (count: number, memory: number) => {
    const { arrays } = createMapping(memory, { build: build(1), runs: dirty(count) });
    const starts = counted(arrays.starts);
    const merged = mergeMapping(new Mapping({ ...arrays, starts: starts.array }), {
      build: build(2),
      runs: dirty(count),
    });
    expect(merged.length).toBe(2 * count);
    return starts.reads() / (2 * count);
  };
  const few = merge(1000, 2 ** 30);
  expect(few).toBeLessThan(8);
  expect(merge(100_000, 2 ** 30)).toBeCloseTo(few, 0);
  expect(merge(1000, 2 ** 40)).toBeCloseTo(few, 0);
});
