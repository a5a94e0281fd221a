import { existsSync, readdirSync } from 'node:fs';
import { link, mkdir, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { isSnapshotFile, SnapshotDirectory } from './layout.ts';
import { build, fc, property, temporaryDirectory } from './testing.ts';

const memory = ['snapfile', 'memfile', 'memfile.header'];

async function holding(names: string[]) {
  const temporary = await temporaryDirectory();
  const directory = new SnapshotDirectory(join(temporary.path, 'snapshot'));
  await directory.ensure();
  for (const name of names) await writeFile(directory.file(name), 'x');
  return { directory, [Symbol.asyncDispose]: () => temporary[Symbol.asyncDispose]() };
}

/** None when there is no directory any more. */
function namesIn(path: string): string[] {
  try {
    return readdirSync(path).toSorted();
  } catch {
    return [];
  }
}

describe('what a directory holds says what it is', () => {
  test.each([
    { names: [...memory, 'rootfs.ext4'], exists: true },
    { names: [...memory, 'rootfs.cow', 'rootfs.meta'], exists: true },
    { names: [...memory, 'rootfs.cow'], exists: false },
    { names: [...memory, 'rootfs.meta'], exists: false },
    { names: memory, exists: false },
    { names: ['rootfs.ext4'], exists: false },
    { names: ['rootfs.cow', 'rootfs.meta'], exists: false },
    { names: ['snapfile', 'memfile', 'rootfs.ext4'], exists: false },
    { names: [], exists: false },
  ])('$names', async ({ names, exists }) => {
    await using it = await holding(names);
    expect(await it.directory.exists()).toBe(exists);
  });

  test('nothing, where there is no directory', async () => {
    const nowhere = new SnapshotDirectory('/nonexistent/perch');
    expect(await nowhere.exists()).toBe(false);
    expect(await nowhere.sizeBytes()).toBe(0);
    await nowhere.remove();
  });

  test('a link or a directory by the name of a file is not that file', async () => {
    await using it = await holding(memory);
    await symlink('memfile', it.directory.file('rootfs.ext4'));
    expect(await it.directory.exists()).toBe(false);
    await mkdir(it.directory.file('rootfs.cow'));
    expect(await it.directory.names()).not.toContain('rootfs.cow');
  });
});

test('names of files are those of the layout, and nothing leads out of the directory', () => {
  const id = build(255);
  for (const name of [
    ...memory,
    `memfile.${id}`,
    `rootfs.cow.${id}`,
    'identity.json',
    'manifest.json',
    'rootfs.base',
  ]) {
    expect(isSnapshotFile(name)).toBe(true);
  }
  for (const name of [
    '',
    '.',
    '..',
    '../memfile',
    `memfile.${id}/..`,
    'memfile.',
    'memfile.tmp',
    `rootfs.base.${id}`,
  ]) {
    expect(isSnapshotFile(name)).toBe(false);
    expect(() => new SnapshotDirectory('/d').file(name)).toThrow(RangeError);
  }
  expect(isSnapshotFile(`memfile.${'0'.repeat(32)}`)).toBe(false);
  expect(isSnapshotFile(`memfile.${id.toUpperCase()}`)).toBe(false);
  expect(new SnapshotDirectory('/d').memfileOf(id, id)).toBe('/d/memfile');
  expect(new SnapshotDirectory('/d').memfileOf(id, build(1))).toBe(`/d/memfile.${id}`);
});

property.prop([
  fc.oneof(
    fc.string({ unit: 'binary' }),
    fc
      .tuple(fc.constantFrom('memfile.', 'rootfs.cow.', 'rootfs.meta', '../', './', ''), fc.string())
      .map(([a, b]) => a + b),
    fc
      .tuple(
        fc.constantFrom('memfile.', 'rootfs.cow.'),
        fc.string({ unit: fc.constantFrom('0', 'f', '.', '/', '\n'), minLength: 30, maxLength: 34 }),
      )
      .map(([a, b]) => a + b),
  ),
])('a name is one of a file in the directory, or is refused', (name) => {
  const directory = new SnapshotDirectory('/d');
  if (isSnapshotFile(name)) expect(directory.file(name)).toMatch(/^\/d\/[a-z0-9.]+$/);
  else expect(() => directory.file(name)).toThrow(RangeError);
});

test('a directory is for root only, and goes with all it holds', async () => {
  await using it = await holding(memory);
  expect((await stat(it.directory.path)).mode & 0o777).toBe(0o700);
  await it.directory.ensure();
  await it.directory.remove();
  await expect(stat(it.directory.path)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('while one is removed nobody finds a part of it', async () => {
  await using it = await holding([...memory, 'manifest.json', 'identity.json']);
  const { path } = it.directory;
  const all = readdirSync(path).toSorted();
  let removed = false;
  const removing = it.directory.remove().then(() => {
    removed = true;
  });
  for (; !removed; await nextTurn()) {
    if (existsSync(path)) expect(namesIn(path)).toBeOneOf([all, []]);
  }
  await removing;
  expect(readdirSync(join(path, '..'))).toEqual([]);
});

test('the size is what is occupied, and what others hold too is told apart', async () => {
  await using it = await holding([]);
  const { directory } = it;
  await writeFile(directory.file('memfile'), Buffer.alloc(2 ** 20, 1));
  await truncate(directory.file('memfile'), 2 ** 40);
  await writeFile(join(directory.path, '..', 'base'), Buffer.alloc(2 ** 19, 1));
  await link(join(directory.path, '..', 'base'), directory.file('rootfs.base'));
  const { ownBytes, sharedBytes } = await directory.occupied();
  // File systems round up, and count the blocks that list blocks.
  expect(ownBytes).toBeGreaterThanOrEqual(2 ** 20);
  expect(ownBytes).toBeLessThan(2 ** 20 + 2 ** 17);
  expect(sharedBytes).toBeGreaterThanOrEqual(2 ** 19);
  expect(sharedBytes).toBeLessThan(2 ** 19 + 2 ** 17);
  expect(await directory.sizeBytes()).toBe(ownBytes + sharedBytes);
});
