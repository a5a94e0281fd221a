import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { destinationOf, openSource, writeWhole } from './local.ts';
import { inUnits } from './progress.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'perch-test-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function* content(...parts: string[]) {
  for (const part of parts) yield Buffer.from(part);
}

async function* broken() {
  yield Buffer.from('new');
  throw new Error('gone');
}

test('a file is written whole, or what was there stays and nothing is left', async () => {
  const path = join(folder, 'file');
  await writeWhole(path, content('a', 'b'));
  expect(await readFile(path, 'utf8')).toBe('ab');
  await expect(writeWhole(path, broken())).rejects.toThrow('gone');
  expect(await readFile(path, 'utf8')).toBe('ab');
  expect(await readdir(folder)).toEqual(['file']);
});

test('a file has its mode, less the umask, and its time, from the first byte on', async () => {
  const path = join(folder, 'file');
  async function* watched() {
    for (const name of await readdir(folder))
      expect((await stat(join(folder, name))).mode & 0o777).toBe(0o600);
    yield Buffer.from('a');
  }
  await writeWhole(path, watched(), { mode: 0o600, modifiedAt: '2001-02-03T04:05:06.700Z' });
  expect(await stat(path)).toMatchObject({ mtimeMs: Date.parse('2001-02-03T04:05:06.700Z') });
  const before = process.umask(0o027);
  try {
    await writeWhole(path, content('b'), { mode: 0o7777, modifiedAt: 'never' });
  } finally {
    process.umask(before);
  }
  expect((await stat(path)).mode & 0o7777).toBe(0o750);
});

test('a source says its mode and its time', async () => {
  const path = join(folder, 'script');
  await writeFile(path, '');
  await chmod(path, 0o4751);
  await utimes(path, 0, 981_173_106.5);
  const { stream, mode, modifiedAt } = await openSource({ kind: 'file', path });
  expect({ mode, modifiedAt }).toEqual({ mode: 0o751, modifiedAt: '2001-02-03T04:05:06.500000000Z' });
  stream.destroy();
});

test('a source with a time that the disk of a sandbox has not says the nearest', async () => {
  const path = join(folder, 'file');
  await writeFile(path, '');
  await utimes(path, 0, 16_000_000_000);
  // A file system of this machine may have no such time either.
  const isThere = (await stat(path)).mtimeMs === 16e12;
  const { stream, modifiedAt, isNearest } = await openSource({ kind: 'file', path });
  expect([modifiedAt, isNearest]).toEqual(['2446-05-10T22:38:55.000000000Z', isThere]);
  stream.destroy();
});

test('a device is written to, not replaced', async () => {
  await writeWhole('/dev/null', content('a'));
  expect(await readFile('/dev/null', 'utf8')).toBe('');
});

test('a directory keeps the name, a file gives its own', async () => {
  expect(await destinationOf(folder, 'x')).toBe(join(folder, 'x'));
  expect(await destinationOf(join(folder, 'y'), 'x')).toBe(join(folder, 'y'));
});

test('a source says its size, and what cannot be one says why', async () => {
  await writeFile(join(folder, 'file'), 'abc');
  await symlink('file', join(folder, 'link'));
  const { stream, size } = await openSource({ kind: 'file', path: join(folder, 'link') });
  expect(size).toBe(3);
  stream.destroy();
  await expect(openSource({ kind: 'file', path: folder })).rejects.toMatchObject({
    message: `${folder} is a directory.`,
    remedy: expect.stringContaining('cp -r'),
  });
  await expect(openSource({ kind: 'file', path: join(folder, 'none') })).rejects.toMatchObject({
    name: 'CliError',
    message: `${join(folder, 'none')} does not exist.`,
  });
});

test('a file in a folder that is not there is a mistake of the user', async () => {
  await expect(writeWhole(join(folder, 'none/file'), content('a'))).rejects.toMatchObject({
    name: 'CliError',
  });
});

test('bytes come in units', () => {
  expect([0, 1023, 1024, 10_485_760, 2 ** 50].map(inUnits)).toEqual([
    '0 B',
    '1023 B',
    '1.0 KiB',
    '10.0 MiB',
    '1024.0 TiB',
  ]);
});
