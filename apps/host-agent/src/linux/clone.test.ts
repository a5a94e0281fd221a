import { mkdtempDisposable, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cloneFile } from './clone.ts';
import { SystemCallError } from './ffi.ts';

test('a clone has the bytes of its original, or nothing where the file system has no clones', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-clone-'));
  await using from = await open(join(dir.path, 'from'), 'w+');
  await using to = await open(join(dir.path, 'to'), 'w+');
  await from.writeFile('original');
  const cloned = cloneFile(from.fd, to.fd);
  expect(await to.readFile('utf8')).toBe(cloned ? 'original' : '');
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
