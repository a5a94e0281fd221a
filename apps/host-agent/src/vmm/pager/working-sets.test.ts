import { mkdtempDisposable, readdir, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { build } from '../../snapshot/testing.ts';
import { WorkingSets } from './working-sets.ts';

async function some() {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-sets-'));
  const kept = join(dir.path, 'kept');
  const written = join(dir.path, 'written');
  return {
    ...{ dir: dir.path, kept, written, sets: new WorkingSets({ dir: kept, limitMib: 64 }) },
    [Symbol.asyncDispose]: () => dir.remove(),
  };
}

async function textOf(sets: WorkingSets, number: number): Promise<string | undefined> {
  await using file = await sets.open(build(number));
  return await file?.readFile('utf8');
}

test('the first record of a state is kept, and is what the next guest gets', async () => {
  await using it = await some();
  expect(await textOf(it.sets, 1)).toBeUndefined();
  await it.sets.keep(build(1), it.written);
  await writeFile(it.written, 'PERCHWS1');
  await it.sets.keep(build(1), it.written);
  expect(await textOf(it.sets, 1)).toBeUndefined();
  await writeFile(it.written, 'PERCHWS1page');
  await it.sets.keep(build(1), it.written);
  await writeFile(it.written, 'PERCHWS1other');
  await it.sets.keep(build(1), it.written);
  expect(await textOf(it.sets, 1)).toBe('PERCHWS1page');
  expect(await readdir(it.kept)).toEqual([build(1)]);
});

test('a link or a long file in the place of a record is none', async () => {
  await using it = await some();
  await symlink('/etc/passwd', it.written);
  await it.sets.keep(build(1), it.written);
  const long = join(it.dir, 'long');
  await writeFile(long, Buffer.alloc(300_000));
  await it.sets.keep(build(2), long);
  expect([await textOf(it.sets, 1), await textOf(it.sets, 2)]).toEqual([undefined, undefined]);
});

test('a record that cannot be kept leaves nothing', async () => {
  await using it = await some();
  await writeFile(it.written, 'PERCHWS1page');
  await expect(it.sets.keep('no-folder/of-it', it.written)).rejects.toThrow('ENOENT');
  expect(await readdir(it.kept)).toEqual([]);
});

test('the oldest go when there are many', async () => {
  await using it = await some();
  await writeFile(it.written, 'PERCHWS1page');
  for (let number = 1; number <= 258; number++) {
    await it.sets.keep(build(number), it.written);
    await utimes(join(it.kept, build(number)), number, number);
  }
  expect(await readdir(it.kept)).toHaveLength(256);
  expect(await textOf(it.sets, 1)).toBeUndefined();
  expect(await textOf(it.sets, 258)).toBe('PERCHWS1page');
});
