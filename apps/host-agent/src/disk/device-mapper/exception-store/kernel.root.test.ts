/** Stores of ours, and those of the kernel's own device-mapper. */
import { execFileSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { findTool } from '@perch/node-kit';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { differences } from '../../differences.ts';
import { flattenStore } from './flatten.ts';
import { fullStoreBytes } from './format.ts';
import { readStore } from './read.ts';
import { bytesOf, changedDisk, KiB, MiB, runsOf, TestFiles } from './test-stores.ts';
import { writeStore } from './write.ts';

const hasDeviceMapper =
  process.getuid?.() === 0 && existsSync('/dev/mapper/control') && findTool('dmsetup') !== undefined;
const diskBytes = 10 * MiB;

function tool(file: string, ...args: string[]): string {
  // Without udev nothing else makes the nodes of devices.
  const env = { PATH: process.env.PATH, DM_DISABLE_UDEV: '1' };
  return execFileSync(file, args, { encoding: 'utf8', env }).trim();
}

/** A snapshot device over two files, removed with the test. */
class KernelSnapshot implements Disposable {
  readonly #name = `perch-test-${randomUUID()}`;
  readonly #loops: string[] = [];

  constructor(base: string, cow: string, { table = 'PO 8' } = {}) {
    try {
      this.#loops.push(tool('losetup', '--find', '--show', '--read-only', base));
      this.#loops.push(tool('losetup', '--find', '--show', cow));
      const line = `0 ${diskBytes / 512} snapshot ${this.#loops.join(' ')} ${table}`;
      tool('dmsetup', 'create', this.#name, '--table', line);
    } catch (error) {
      this.#detach();
      throw error;
    }
  }

  get path(): string {
    return `/dev/mapper/${this.#name}`;
  }

  /** Writes go to the store before this returns. */
  async write(bytes: Uint8Array, offset: number): Promise<void> {
    await using device = await open(this.path, 'r+');
    await device.write(bytes, 0, bytes.length, offset);
    await device.sync();
  }

  discard(offset: number, length: number): void {
    tool('blkdiscard', '--offset', `${offset}`, '--length', `${length}`, this.path);
  }

  bytes(): Buffer {
    expect(statSync(this.path).isBlockDevice()).toBe(true);
    return readFileSync(this.path);
  }

  /** Of `allocated/total metadata`, sectors; or what the kernel says instead. */
  status(): string {
    return tool('dmsetup', 'status', this.#name).split(' ').slice(3).join(' ');
  }

  #detach(): void {
    for (const loop of this.#loops) tool('losetup', '--detach', loop);
  }

  [Symbol.dispose](): void {
    try {
      tool('dmsetup', 'remove', '--retry', this.#name);
    } finally {
      this.#detach();
    }
  }
}

/** A base of noise and holes, and its bytes. */
async function baseIn(files: TestFiles) {
  const bytes = Buffer.alloc(diskBytes);
  for (let at = 0; at < diskBytes; at += 3 * MiB) randomBytes(MiB).copy(bytes, at);
  const file = await files.file(bytes);
  return { bytes, file, path: files.path(file) };
}

/** An empty file for a store. */
async function cowIn(files: TestFiles, length: number) {
  const file = await files.file();
  await file.truncate(length);
  return { file, path: files.path(file) };
}

/** Writes of a guest, which know nothing of chunks: the same ones each time. */
function writesOf(seed: number, numRuns: number) {
  const sectors = fc.record({ at: fc.nat(diskBytes / 512 - 1), length: fc.integer({ min: 1, max: 200 }) });
  return fc.sample(sectors, { seed, numRuns }).map(({ at, length }) => {
    const offset = at * 512;
    return { offset, bytes: randomBytes(Math.min(length * 512, diskBytes - offset)) };
  });
}

const why = hasDeviceMapper ? '' : ' (skipped: there is no device-mapper, or this is not root)';

describe.runIf(hasDeviceMapper)(`beside the kernel${why}`, () => {
  test.each([
    ['PO 8', 4 * KiB],
    ['PO 8 1 discard_zeroes_cow', 4 * KiB],
    ['P 32', 16 * KiB],
    ['PO 256', 128 * KiB],
  ])(
    'a store that the kernel wrote (%s) is read, and flattened to the same bytes',
    async (table, chunkBytes) => {
      await using files = new TestFiles();
      const base = await baseIn(files);
      const cow = await cowIn(files, 2 * fullStoreBytes(diskBytes));
      let [seen, status]: [Buffer, string] = [Buffer.alloc(0), ''];
      {
        using snapshot = new KernelSnapshot(base.path, cow.path, { table });
        for (const { offset, bytes } of writesOf(chunkBytes, 80)) await snapshot.write(bytes, offset);
        if (table.includes('discard')) snapshot.discard(2 * MiB, MiB);
        [seen, status] = [snapshot.bytes(), snapshot.status()];
      }
      const store = await readStore(cow.file, diskBytes);
      expect(store.chunkBytes).toBe(chunkBytes);
      expect(store.usedBytes).toBe(Number(status.split('/')[0]) * 512);
      const flat = await files.file();
      await flattenStore(base.file, store, flat);
      expect((await bytesOf(flat)).equals(seen)).toBe(true);
    },
  );

  // An area has 256 exceptions: none, one less than full, full, two that are full, all of the disk.
  test.each([0, 255, 256, 512, diskBytes / (4 * KiB)])(
    'a store of %i chunks that we wrote is read by the kernel as the same bytes, and written on',
    async (count) => {
      await using files = new TestFiles();
      const base = await baseIn(files);
      const step = Math.max(1, Math.floor(diskBytes / (4 * KiB) / Math.max(count, 1)));
      const chunks = new Map(Array.from({ length: count }, (_, i) => [i * step, i & 255]));
      const changed = { chunks, diskBytes };
      const raw = await files.file(changedDisk(Buffer.alloc(0), changed));
      const cow = await cowIn(files, 0);
      await writeStore(cow.file, diskBytes, runsOf(changed), raw);
      const { usedBytes } = await readStore(cow.file, diskBytes);
      const expected = changedDisk(base.bytes, changed);
      {
        using snapshot = new KernelSnapshot(base.path, cow.path);
        expect(snapshot.status()).toMatch(new RegExp(`^${usedBytes / 512}/`));
        expect(snapshot.bytes().equals(expected)).toBe(true);
        for (const { offset, bytes } of writesOf(count, 20)) {
          await snapshot.write(bytes, offset);
          bytes.copy(expected, offset);
        }
        expect(snapshot.bytes().equals(expected)).toBe(true);
      }
      const flat = await files.file();
      await flattenStore(base.file, await readStore(cow.file, diskBytes), flat);
      expect((await bytesOf(flat)).equals(expected)).toBe(true);
    },
  );

  test('two stores of which the kernel wrote one on differ where that was written', async () => {
    await using files = new TestFiles();
    const base = await baseIn(files);
    const cow = await cowIn(files, fullStoreBytes(diskBytes));
    const spots = [MiB, 2 * MiB, 5 * MiB];
    {
      using snapshot = new KernelSnapshot(base.path, cow.path);
      for (const offset of spots) await snapshot.write(randomBytes(64 * KiB), offset);
    }
    const before = await files.file(await bytesOf(cow.file));
    {
      using snapshot = new KernelSnapshot(base.path, cow.path);
      await snapshot.write(randomBytes(8 * KiB), 2 * MiB + 4 * KiB);
      await snapshot.write(randomBytes(4 * KiB), 9 * MiB);
    }
    const found = [];
    const stores = [await readStore(before, diskBytes), await readStore(cow.file, diskBytes)] as const;
    for await (const range of differences(...stores)) found.push(range);
    expect(found).toEqual([
      { offset: 2 * MiB + 4 * KiB, length: 8 * KiB },
      { offset: 9 * MiB, length: 4 * KiB },
    ]);
  });

  test('a store that the kernel gave up is told as such', async () => {
    await using files = new TestFiles();
    const base = await baseIn(files);
    const cow = await cowIn(files, 64 * KiB);
    {
      using snapshot = new KernelSnapshot(base.path, cow.path, { table: 'P 8' });
      await expect(snapshot.write(Buffer.alloc(256 * KiB, 1), 0)).rejects.toMatchObject({ code: 'EIO' });
      expect(snapshot.status()).toBe('Invalid');
    }
    await expect(readStore(cow.file, diskBytes)).rejects.toThrow('was given up by the kernel');
  });
});
