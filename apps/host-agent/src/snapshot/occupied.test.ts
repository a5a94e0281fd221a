import { link, mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { occupiedBy } from './occupied.ts';
import { temporaryDirectory } from './testing.ts';

test('a file of several names counts once, and is their own when nobody else has it', async () => {
  await using dir = await temporaryDirectory();
  const [one, two, elsewhere] = ['one', 'two', 'elsewhere'].map((name) => join(dir.path, name));
  if (!one || !two || !elsewhere) throw new Error('no names');
  for (const path of [one, two, elsewhere]) await mkdir(path);
  await writeFile(join(one, 'alone'), Buffer.alloc(100_000, 1));
  await writeFile(join(one, 'both'), Buffer.alloc(200_000, 2));
  await link(join(one, 'both'), join(two, 'under another name'));
  await writeFile(join(two, 'others'), Buffer.alloc(300_000, 3));
  await link(join(two, 'others'), join(elsewhere, 'others'));
  const bytes = async (path: string) => (await stat(path)).blocks * 512;
  const [alone, both, others] = await Promise.all(
    [join(one, 'alone'), join(one, 'both'), join(two, 'others')].map(bytes),
  );
  if (!alone || !both || !others) throw new Error('no bytes');
  expect(await occupiedBy([one, two])).toEqual({ ownBytes: alone + both, sharedBytes: others });
  expect(await occupiedBy([one])).toEqual({ ownBytes: alone, sharedBytes: both });
  expect(await occupiedBy([one, two, elsewhere])).toEqual({
    ownBytes: alone + both + others,
    sharedBytes: 0,
  });
  expect(await occupiedBy([join(dir.path, 'none')])).toEqual({ ownBytes: 0, sharedBytes: 0 });
});
