import { execFileSync } from 'node:child_process';
import {
  appendFile,
  link,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { dataRuns } from '../linux/index.ts';
import { SnapshotDamaged } from './damaged.ts';
import { ForeignDirectory } from './foreign-directory.ts';
import { fillDirectory, temporaryDirectory } from './testing.ts';

const MiB = 2 ** 20;

async function setUp() {
  const dir = await temporaryDirectory();
  const path = join(dir.path, 'foreign');
  const files = await fillDirectory(path);
  return { path, files, target: join(dir.path, 'copy'), [Symbol.asyncDispose]: dir[Symbol.asyncDispose] };
}

test('its files are known with their lengths, and read within bounds', async () => {
  await using it = await setUp();
  await using foreign = await ForeignDirectory.open(it.path);
  expect(foreign.length('memfile')).toBe(4096);
  expect(foreign.has('rootfs.ext4')).toBe(false);
  expect(foreign.occupied.get('rootfs.base')).toBeGreaterThanOrEqual(65_536);
  expect(String(await foreign.read('rootfs.cow', 5))).toBe('layer');
  await expect(foreign.read('rootfs.cow', 4)).rejects.toThrow(
    'rootfs.cow has 5 bytes, more than the 4 allowed',
  );
  expect(() => foreign.length('rootfs.ext4')).toThrow('rootfs.ext4 is missing');
});

test('a copy has the same bytes and holes, and is a file of its own', async () => {
  await using it = await setUp();
  const sparse = it.files.file('rootfs.base');
  await truncate(sparse, 3 * MiB);
  await using foreign = await ForeignDirectory.open(it.path);
  await foreign.copy('rootfs.base', it.target, 0o444);
  expect((await readFile(it.target)).equals(await readFile(sparse))).toBe(true);
  const made = await stat(it.target);
  expect({ mode: made.mode & 0o777, links: made.nlink }).toEqual({ mode: 0o444, links: 1 });
  await using file = await open(it.target);
  const data = [...dataRuns(file.fd, 0, 3 * MiB)].reduce((sum, { length }) => sum + length, 0);
  expect(data).toBeLessThan(MiB);
  await expect(foreign.copy('memfile', it.target, 0o444)).rejects.toMatchObject({ code: 'EEXIST' });
});

test('what becomes of its path changes nothing', async () => {
  await using it = await setUp();
  await using foreign = await ForeignDirectory.open(it.path);
  await rename(it.path, `${it.path}-moved`);
  await symlink('/etc', it.path);
  expect(String(await foreign.read('rootfs.cow', 5))).toBe('layer');
});

describe('is not read', () => {
  const opened: [string, (path: string) => Promise<unknown>, RegExp][] = [
    ['where there is none', (path) => rm(path, { recursive: true }), /^the directory is missing$/],
    [
      'where there is a file',
      async (path) => {
        await rm(path, { recursive: true });
        await writeFile(path, '');
      },
      /^the directory is none$/,
    ],
    [
      'by a link',
      async (path) => {
        await rename(path, `${path}-real`);
        await symlink(`${path}-real`, path);
      },
      /^the directory is (none|a link)$/,
    ],
    [
      'with a link',
      (path) => symlink('/etc/passwd', join(path, 'rootfs.ext4')),
      /^rootfs.ext4 is not a regular/,
    ],
    [
      'with a pipe',
      async (path) => execFileSync('mkfifo', [join(path, 'rootfs.ext4')]),
      /^rootfs.ext4 is not a regular file$/,
    ],
    ['with a directory', (path) => mkdir(join(path, 'rootfs.ext4')), /^rootfs.ext4 is not a regular file$/],
    [
      'with what no snapshot has',
      (path) => writeFile(join(path, 'evil\u001b.txt'), ''),
      /^"evil\\u001b.txt" is no file of a snapshot/,
    ],
  ];
  test.each(opened)('%s', async (_, change, message) => {
    await using it = await setUp();
    await change(it.path);
    const error: unknown = await ForeignDirectory.open(it.path).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(SnapshotDamaged);
    expect((error as Error).message).toMatch(message);
  });

  test('when a link or a pipe took the place of a file meanwhile', async () => {
    await using it = await setUp();
    await using foreign = await ForeignDirectory.open(it.path);
    await rm(it.files.file('memfile'));
    await symlink('rootfs.base', it.files.file('memfile'));
    await rm(it.files.file('snapfile'));
    execFileSync('mkfifo', [it.files.file('snapfile')]);
    for (const name of ['memfile', 'snapfile']) {
      await expect(foreign.copy(name, it.target, 0o444)).rejects.toThrow(`${name} is not a regular file`);
    }
  });

  test.each<[string, (path: string) => Promise<unknown>, RegExp]>([
    ['grew', (path) => appendFile(path, 'x'), /was changed meanwhile/],
    ['was cut off', (path) => truncate(path, 100), /too early|was changed meanwhile/],
    ['went', (path) => rm(path), /is missing/],
  ])('when a file %s meanwhile', async (_, change, message) => {
    await using it = await setUp();
    await using foreign = await ForeignDirectory.open(it.path);
    await change(it.files.file('memfile'));
    await expect(foreign.copy('memfile', it.target, 0o444)).rejects.toThrow(message);
  });
});

test('a file with other names elsewhere is copied like any other', async () => {
  await using it = await setUp();
  await link(it.files.file('memfile'), join(it.path, '..', 'elsewhere'));
  await using foreign = await ForeignDirectory.open(it.path);
  await foreign.copy('memfile', it.target, 0o444);
  expect((await stat(it.target)).size).toBe(4096);
});
