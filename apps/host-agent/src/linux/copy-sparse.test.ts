import { mkdtempDisposable, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { copySparse } from './copy-sparse.ts';

const MiB = 2 ** 20;

async function twoFiles(toDir = tmpdir()) {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-copy-'));
  const otherDir = await mkdtempDisposable(join(toDir, 'perch-copy-'));
  const from = await open(join(dir.path, 'from'), 'w+');
  const to = await open(join(otherDir.path, 'to'), 'w+');
  return {
    ...{ from, to },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([from.close(), to.close()]);
      await Promise.all([dir.remove(), otherDir.remove()]);
    },
  };
}

test.each([
  ['on one file system', tmpdir()],
  ['to another file system', '/dev/shm'],
])('data are copied to their place, holes stay holes, %s', async (_, toDir) => {
  await using files = await twoFiles(toDir);
  const { from, to } = files;
  await from.write(Buffer.alloc(3 * MiB, 1), 0, 3 * MiB, MiB);
  await from.write(Buffer.alloc(5000, 2), 0, 5000, 100 * MiB);
  await copySparse(from, to, { at: 2 * MiB, offset: 10 * MiB, length: 200 * MiB });
  const { size, blocks } = await to.stat();
  expect(size).toBe(108 * MiB + 5000);
  expect(blocks * 512).toBeLessThan(3 * MiB);
  const copy = await to.readFile();
  const expected = Buffer.alloc(size);
  expected.fill(1, 10 * MiB, 12 * MiB).fill(2, 108 * MiB);
  expect(copy.equals(expected)).toBe(true);
});

test('a copy that is given up throws what it was given up with', async () => {
  await using files = await twoFiles();
  await files.from.write('data');
  const signal = AbortSignal.abort(new Error('enough'));
  const part = { at: 0, offset: 0, length: 4 };
  await expect(copySparse(files.from, files.to, part, signal)).rejects.toThrow('enough');
  expect((await files.to.stat()).size).toBe(0);
});

test('a full disk is an error of that name', async () => {
  await using files = await twoFiles();
  await using full = await open('/dev/full', 'w');
  await files.from.write('data');
  const copying = copySparse(files.from, full, { at: 0, offset: 0, length: 4 });
  await expect(copying).rejects.toMatchObject({ code: 'ENOSPC' });
});
