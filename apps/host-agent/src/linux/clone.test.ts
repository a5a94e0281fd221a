import { mkdtempDisposable, open, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cloneFile, cloneRange, hasClones } from './clone.ts';
import { SystemCallError } from './ffi.ts';

test('a clone has the bytes of its original, or nothing where the file system has no clones', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-clone-'));
  await using from = await open(join(dir.path, 'from'), 'w+');
  await using to = await open(join(dir.path, 'to'), 'w+');
  await from.writeFile('original');
  const cloned = cloneFile(from.fd, to.fd);
  expect(await to.readFile('utf8')).toBe(cloned ? 'original' : '');
});

test('a part of a file is put in the place of another, where the file system has clones', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-clone-'));
  await using from = await open(join(dir.path, 'from'), 'w+');
  await using to = await open(join(dir.path, 'to'), 'w+');
  await from.writeFile(Buffer.concat([Buffer.alloc(4096, 1), Buffer.alloc(4096, 2)]));
  await to.writeFile(Buffer.alloc(12_288, 9));
  const cloned = cloneRange(from.fd, to.fd, { fromOffset: 4096, length: 4096, toOffset: 8192 });
  expect(cloned).toBe(await hasClones(dir.path));
  const found = Buffer.alloc(12_288);
  await to.read(found, 0, found.length, 0);
  expect([found[0], found[8191], found[8192], found[12_287]]).toEqual(cloned ? [9, 9, 2, 2] : [9, 9, 9, 9]);
  expect(await readdir(dir.path)).toEqual(['from', 'to']);
});

test('where there can be no clone at all, that is no error', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-clone-'));
  await using proc = await open('/proc/self/status');
  await using to = await open(join(dir.path, 'to'), 'w+');
  expect(cloneFile(proc.fd, to.fd)).toBe(false);
});

test('a descriptor that is not open is an error', () => {
  expect(() => cloneFile(1_000_000, 1_000_001)).toThrow(SystemCallError);
});
