import { mkdtempDisposable, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { hasCode, ifThere, isDiskFull } from './system-error.ts';

const failure = (promise: Promise<unknown>) => promise.then(() => undefined).catch((error: unknown) => error);

test('where nothing is there is no answer, and any other failure stays one', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const file = join(dir.path, 'file');
  expect(await ifThere(readFile(file))).toBeUndefined();
  await writeFile(file, 'x');
  expect(await ifThere(readFile(file, 'utf8'))).toBe('x');
  await expect(ifThere(readdir(file))).rejects.toMatchObject({ code: 'ENOTDIR' });
});

test('a failure is told by its codes', async () => {
  const error = await failure(readFile('/nonexistent'));
  expect(hasCode(error, 'ENOTDIR', 'ENOENT')).toBe(true);
  expect(hasCode(error, 'ENOTDIR')).toBe(false);
  expect([undefined, null, 'ENOENT', new Error('ENOENT')].map((one) => hasCode(one, 'ENOENT'))).toEqual(
    Array(4).fill(false),
  );
});

test('a full disk and a quota that is reached are told from other causes, however deep', async () => {
  const full = await failure(writeFile('/dev/full', 'x'));
  const quota = Object.assign(new Error('EDQUOT: disk quota exceeded, write'), { code: 'EDQUOT' });
  const deep = new Error('cannot write', { cause: new Error('layer', { cause: full }) });
  expect([full, quota, deep, new Error('no space'), undefined].map(isDiskFull)).toEqual([
    ...[true, true, true],
    ...[false, false],
  ]);
});
