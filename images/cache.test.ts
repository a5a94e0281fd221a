import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cacheDir, cached, contentKey, readInputs } from './cache.ts';

async function temporaryFolder() {
  const path = await mkdtemp(join(tmpdir(), 'perch-cache-test-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

test('the key follows names and contents, not their order', () => {
  const key = contentKey(
    new Map([
      ['a', '1'],
      ['b', '2'],
    ]),
  );
  expect(
    contentKey(
      new Map([
        ['b', '2'],
        ['a', '1'],
      ]),
    ),
  ).toBe(key);
  expect(
    contentKey(
      new Map([
        ['a', '12'],
        ['b', ''],
      ]),
    ),
  ).not.toBe(key);
  expect(
    contentKey(
      new Map([
        ['a', '1'],
        ['c', '2'],
      ]),
    ),
  ).not.toBe(key);
});

test('tests and missing files are no inputs', async () => {
  await using folder = await temporaryFolder();
  await mkdir(join(folder.path, 'recipe/files'), { recursive: true });
  await writeFile(join(folder.path, 'recipe/files/motd'), 'hello');
  await writeFile(join(folder.path, 'recipe/a.test.ts'), '');
  await writeFile(join(folder.path, 'lock'), '1');
  const inputs = await readInputs(folder.path, ['recipe', 'lock', 'absent']);
  expect([...inputs.keys()].sort()).toEqual(['lock', 'recipe/files/motd']);
});

test('an entry is built once', async () => {
  await using folder = await temporaryFolder();
  let builds = 0;
  const build = async (target: string) => writeFile(join(target, 'n'), String(++builds));
  await cached(folder.path, 'kind', 'key', build);
  const entry = await cached(folder.path, 'kind', 'key', build);
  expect(entry).toBe(join(folder.path, 'kind/key'));
  expect(await readFile(join(entry, 'n'), 'utf8')).toBe('1');
  await cached(folder.path, 'kind', 'key', build, true);
  expect(await readFile(join(entry, 'n'), 'utf8')).toBe('2');
});

test('an entry is open to read for all, whatever the umask is', async () => {
  await using folder = await temporaryFolder();
  const before = process.umask(0o077);
  try {
    const entry = await cached(folder.path, 'kind', 'key', async (target) => {
      await mkdir(join(target, 'modules'));
      await writeFile(join(target, 'modules/order'), '');
      await writeFile(join(target, 'image'), '', { mode: 0o444 });
      await writeFile(join(target, 'program'), '', { mode: 0o777 });
    });
    const modes = ['.', 'modules', 'modules/order', 'image', 'program'].map(
      async (name) => (await stat(join(entry, name))).mode & 0o777,
    );
    expect(await Promise.all(modes)).toEqual([0o755, 0o755, 0o644, 0o444, 0o755]);
  } finally {
    process.umask(before);
  }
});

test('a build that fails leaves nothing, and one that was killed is swept', async () => {
  await using folder = await temporaryFolder();
  await mkdir(join(folder.path, 'kind/.partial-999999999-dead'), { recursive: true });
  const failing = cached(folder.path, 'kind', 'key', async (target) => {
    await writeFile(join(target, 'half'), '');
    throw new Error('no mirror');
  });
  await expect(failing).rejects.toThrow('no mirror');
  expect(await readdir(join(folder.path, 'kind'))).toEqual([]);
});

test('of two builds of one entry the first to finish stays', async () => {
  await using folder = await temporaryFolder();
  const build = (text: string) => async (target: string) => {
    await writeFile(join(target, 'text'), text);
    if (text === 'slow') await cached(folder.path, 'kind', 'key', build('quick'));
  };
  const entry = await cached(folder.path, 'kind', 'key', build('slow'));
  expect(await readFile(join(entry, 'text'), 'utf8')).toBe('quick');
  expect(await readdir(join(folder.path, 'kind'))).toEqual(['key']);
});

test('the cache is where the environment says', () => {
  expect(cacheDir({ PERCH_CACHE: '/a', XDG_CACHE_HOME: '/b' })).toBe('/a');
  expect(cacheDir({ XDG_CACHE_HOME: '/b' })).toBe('/b/perch');
  expect(cacheDir({})).toMatch(/\/\.cache\/perch$/);
  expect(cacheDir({ PERCH_CACHE: '', XDG_CACHE_HOME: '' })).toMatch(/\/\.cache\/perch$/);
});
