import { mkdtempDisposable, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SystemCallError } from './ffi.ts';
import { dataRuns } from './sparse.ts';

const MiB = 2 ** 20;

async function sparseFile(length: number, data: { offset: number; length: number }[]) {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-sparse-'));
  const file = await open(join(dir.path, 'file'), 'w+');
  await file.truncate(length);
  for (const run of data) await file.write(Buffer.alloc(run.length, 1), 0, run.length, run.offset);
  return {
    fd: file.fd,
    [Symbol.asyncDispose]: async () => {
      await file.close();
      await dir.remove();
    },
  };
}

test('the data of a sparse file are found, and its holes are not', async () => {
  const data = [
    { offset: MiB, length: 65_536 },
    { offset: 5 * 2 ** 30, length: MiB },
  ];
  await using file = await sparseFile(6 * 2 ** 30, data);
  expect([...dataRuns(file.fd, 0, 6 * 2 ** 30)]).toEqual(data);
});

test('a run is whole wherever it lies, and so are many', async () => {
  const length = 3 * MiB;
  const data = Array.from({ length: 40 }, (_, i) => ({ offset: i * 7 * MiB, length }));
  const long = { offset: 300 * MiB, length: 150 * MiB };
  await using file = await sparseFile(2 ** 30, [...data, long]);
  expect([...dataRuns(file.fd, 0, 2 ** 30)]).toEqual([...data, long]);
});

test('what is found stays within what was asked for', async () => {
  await using file = await sparseFile(8 * MiB, [{ offset: 0, length: 4 * MiB }]);
  expect([...dataRuns(file.fd, MiB, 2 * MiB)]).toEqual([{ offset: MiB, length: MiB }]);
  expect([...dataRuns(file.fd, 6 * MiB, 8 * MiB)]).toEqual([]);
  expect([...dataRuns(file.fd, 9 * MiB, 10 * MiB)]).toEqual([]);
});

test('a file without data has none, and neither has an empty one', async () => {
  await using hole = await sparseFile(MiB, []);
  expect([...dataRuns(hole.fd, 0, MiB)]).toEqual([]);
  await using empty = await sparseFile(0, []);
  expect([...dataRuns(empty.fd, 0, MiB)]).toEqual([]);
});

test('a descriptor that is not open is an error', () => {
  expect(() => [...dataRuns(1_000_000, 0, 1)]).toThrow(SystemCallError);
});
