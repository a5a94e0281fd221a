import { mkdir, mkdtempDisposable, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { placeDurably, sync, writeDurably } from './durable.ts';

test('a file takes the place of another, with its mode, and leaves nothing beside it', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const path = join(dir.path, 'file');
  await writeFile(path, 'before', { mode: 0o644 });
  await writeDurably(path, 'after');
  expect(await readFile(path, 'utf8')).toBe('after');
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await writeDurably(path, Buffer.from('for all'), { mode: 0o666 });
  expect((await stat(path)).mode & 0o777).toBe(0o666);
  expect(await readdir(dir.path)).toEqual(['file']);
});

test('a file that could not be prepared leaves the one before', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const path = join(dir.path, 'file');
  await writeDurably(path, 'before');
  const prepare = () => Promise.reject(new Error('no such owner'));
  await expect(writeDurably(path, 'after', { prepare })).rejects.toThrow('no such owner');
  expect(await readFile(path, 'utf8')).toBe('before');
  await writeDurably(path, 'after');
  expect(await readFile(path, 'utf8')).toBe('after');
});

test('a link where the content waits is not followed', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const [path, victim] = [join(dir.path, 'file'), join(dir.path, 'victim')];
  await writeFile(victim, 'kept');
  await symlink(victim, `${path}.new`);
  await writeDurably(path, 'content');
  expect([await readFile(victim, 'utf8'), await readFile(path, 'utf8')]).toEqual(['kept', 'content']);
});

test('the directory may be reached by a link', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const [real, link] = [join(dir.path, 'real'), join(dir.path, 'link')];
  await mkdir(real);
  await symlink(real, link);
  await writeDurably(join(link, 'file'), 'content');
  expect(await readFile(join(real, 'file'), 'utf8')).toBe('content');
});

test('a directory gets its name, and a link is not synced', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const [made, place] = [join(dir.path, 'made'), join(dir.path, 'place')];
  await mkdir(made);
  await placeDurably(made, place);
  expect(await readdir(dir.path)).toEqual(['place']);
  await symlink(place, made);
  await expect(sync(made)).rejects.toMatchObject({ code: 'ELOOP' });
});
