import { mkdir, mkdtempDisposable, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exchange } from './exchange.ts';

test('two directories change places, and one alone stays where it is', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-exchange-'));
  const [one, other] = [join(dir.path, 'a/one'), join(dir.path, 'other')];
  await mkdir(one, { recursive: true });
  await mkdir(other);
  await writeFile(join(one, 'first'), '');
  await writeFile(join(other, 'second'), '');
  exchange(one, other);
  expect([await readdir(one), await readdir(other)]).toEqual([['second'], ['first']]);
  expect(() => exchange(one, join(dir.path, 'none'))).toThrow('ENOENT');
  expect(await readdir(one)).toEqual(['second']);
});
