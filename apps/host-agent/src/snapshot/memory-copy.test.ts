import { open, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { verifyFile } from './checksum.ts';
import { writeFully } from './files.ts';
import { pageBytes, type Run } from './mapping.ts';
import { batchBytes, maxRunsPerRead } from './memory-batches.ts';
import { copyMemory, type MemoryCopyRequest, type MemorySource } from './memory-copy.ts';
import { createMapping, mergeMapping } from './merge.ts';
import { build, fc, property, temporaryDirectory } from './testing.ts';

/** A guest whose memory is an array; checks what it is asked for. */
function guest(memory: Buffer): MemorySource & { reads: Run[][] } {
  const reads: Run[][] = [];
  let busy = false;
  return {
    reads,
    async read(runs, into) {
      expect(busy).toBe(false);
      busy = true;
      await setImmediate();
      let at = 0;
      for (const { offset, length } of runs) {
        memory.copy(into, at, offset, offset + length);
        at += length;
      }
      expect(at).toBe(into.length);
      expect(runs.length).toBeLessThanOrEqual(maxRunsPerRead);
      expect(at).toBeLessThanOrEqual(batchBytes);
      reads.push(runs);
      busy = false;
    },
  };
}

async function copy(
  source: MemorySource,
  dirty: Run[],
  memoryBytes: number,
  layout: MemoryCopyRequest['layout'],
) {
  const dir = await temporaryDirectory();
  const path = join(dir.path, 'memfile');
  try {
    const result = await copyMemory({ source, dirty, memoryBytes, build: build(2), path, layout });
    return { ...result, path, [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose]() };
  } catch (error) {
    await dir[Symbol.asyncDispose]();
    throw error;
  }
}

/** The memory that a mapping of a memfile over a parent full of `old` gives back. */
function rebuild(
  memfile: Buffer,
  runs: Parameters<typeof mergeMapping>[1],
  memoryBytes: number,
  old: number,
): Buffer {
  const whole = [{ offset: 0, length: memoryBytes, storageOffset: 0 }];
  const parent = createMapping(memoryBytes, { build: build(1), runs: whole });
  const memory = Buffer.alloc(memoryBytes);
  for (const { offset, length, build: owner, storageOffset } of mergeMapping(parent, runs)) {
    if (owner === build(1)) memory.fill(old, offset, offset + length);
    else if (owner === build(2)) memfile.copy(memory, offset, storageOffset, storageOffset + length);
  }
  return memory;
}

const layout = fc.constantFrom('compact' as const, 'flat' as const);
/** Of each page: clean (null), dirty and zeros (0), dirty. */
const pages = fc.array(fc.option(fc.nat(2)), { minLength: 1, maxLength: 200 });

function toRuns(dirty: boolean[]): Run[] {
  const runs: Run[] = [];
  dirty.forEach((is, page) => {
    const last = runs.at(-1);
    if (!is) return;
    if (last && last.offset + last.length === page * pageBytes) last.length += pageBytes;
    else runs.push({ offset: page * pageBytes, length: pageBytes });
  });
  return runs;
}

const old = 9;
property.prop([pages, layout], { numRuns: 60 })(
  'what is copied over the parent is the memory',
  async (state, form) => {
    const memory = Buffer.concat(state.map((page) => Buffer.alloc(pageBytes, page ?? old)));
    const dirty = toRuns(state.map((page) => page !== null));
    await using result = await copy(guest(memory), dirty, memory.length, form);
    const memfile = await readFile(result.path);
    expect(rebuild(memfile, result.diff, memory.length, old).equals(memory)).toBe(true);
    const count = (which: (page: number | null) => boolean) => state.filter(which).length * pageBytes;
    expect(result.bytes).toBe(count((page) => page !== null && page !== 0));
    expect(result.zeroBytes).toBe(count((page) => page === 0));
    expect(memfile.length).toBe(form === 'flat' ? memory.length : result.bytes);
    await verifyFile(result.path, 'memfile', result.sum);
  },
);

describe.each(['compact', 'flat'] as const)('a %s copy', (form) => {
  test('over many batches joins what their edges cut', async () => {
    const memory = Buffer.alloc(3 * batchBytes, 1);
    memory.fill(0, batchBytes / 2, batchBytes * 2.5);
    const source = guest(memory);
    await using result = await copy(source, [{ offset: 0, length: memory.length }], memory.length, form);
    expect(source.reads).toHaveLength(3);
    const tail = form === 'flat' ? 2.5 * batchBytes : 0.5 * batchBytes;
    expect(result.diff.runs).toEqual([
      { offset: 0, length: batchBytes / 2, storageOffset: 0 },
      { offset: batchBytes / 2, length: 2 * batchBytes, storageOffset: null },
      { offset: 2.5 * batchBytes, length: batchBytes / 2, storageOffset: tail },
    ]);
    expect((await stat(result.path)).blocks * 512).toBeLessThan(batchBytes * 1.1);
    await verifyFile(result.path, 'memfile', result.sum);
  });

  test('of thousands of single pages asks for a bounded number at a time', async () => {
    const memory = Buffer.alloc(6000 * pageBytes);
    for (let page = 0; page < 6000; page++) memory.writeUInt32LE(page + 1, page * pageBytes + 4092);
    const dirty = Array.from({ length: 3000 }, (_, index) => ({
      offset: 2 * index * pageBytes,
      length: pageBytes,
    }));
    await using result = await copy(guest(memory), dirty, memory.length, form);
    expect(result.bytes).toBe(3000 * pageBytes);
    const memfile = await readFile(result.path);
    for (const { offset, storageOffset } of result.diff.runs) {
      expect(memfile.readUInt32LE((storageOffset ?? 0) + 4092)).toBe(offset / pageBytes + 1);
    }
    await verifyFile(result.path, 'memfile', result.sum);
  });

  test('of nothing is a file without data', async () => {
    await using result = await copy(guest(Buffer.alloc(0)), [], 16 * pageBytes, form);
    expect(result).toMatchObject({ bytes: 0, zeroBytes: 0, diff: { runs: [] }, sum: { extents: [] } });
    expect((await stat(result.path)).size).toBe(form === 'flat' ? 16 * pageBytes : 0);
  });
});

describe('a copy that fails', () => {
  const dirty = [{ offset: 0, length: 4 * batchBytes }];

  test.each([0, 1, 3])('at read %d leaves no file behind, and tells why', async (fatal) => {
    await using dir = await temporaryDirectory();
    const path = join(dir.path, 'memfile');
    let reads = 0;
    let underWay = 0;
    const source: MemorySource = {
      async read(_, into) {
        underWay++;
        await setImmediate();
        underWay--;
        if (reads++ === fatal) throw new Error('the guest is gone');
        into.fill(1);
      },
    };
    const request = {
      source,
      dirty,
      memoryBytes: 4 * batchBytes,
      build: build(2),
      path,
      layout: 'compact',
    } as const;
    await expect(copyMemory(request)).rejects.toThrow('the guest is gone');
    expect(underWay).toBe(0);
    await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('because there is a file leaves that alone', async () => {
    await using dir = await temporaryDirectory();
    const path = join(dir.path, 'memfile');
    await writeFile(path, 'precious');
    const source = guest(Buffer.alloc(0));
    const request = { source, dirty: [], memoryBytes: 4096, build: build(2), path, layout: 'flat' } as const;
    await expect(copyMemory(request)).rejects.toMatchObject({ code: 'EEXIST' });
    expect(await readFile(path, 'utf8')).toBe('precious');
  });

  test('because its runs do not fit the memory reads nothing', async () => {
    const source = guest(Buffer.alloc(0));
    await expect(copy(source, [{ offset: 4096, length: 4096 }], 4096, 'flat')).rejects.toThrow(RangeError);
    expect(source.reads).toEqual([]);
  });
});

property.prop([fc.array(fc.uint8Array({ maxLength: 20 })), fc.integer({ min: 1, max: 30 })])(
  'pieces are written whole, however few bytes the kernel takes at a time',
  async (texts, most) => {
    const pieces = texts.map((text) => Buffer.from(text)).filter((piece) => piece.length > 0);
    await using dir = await temporaryDirectory();
    await using real = await open(join(dir.path, 'file'), 'w+');
    const slow = {
      writev: (parts: Buffer[], at: number) => {
        const bytes = Buffer.concat(parts).subarray(0, most);
        return real.write(bytes, 0, bytes.length, at);
      },
    };
    await writeFully(slow as unknown as typeof real, pieces, 3);
    expect((await readFile(join(dir.path, 'file'))).subarray(3)).toEqual(Buffer.concat(pieces));
  },
);
