import { mkdtempDisposable, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { requireOneFileSystem } from './one-file-system.ts';

const elsewhere = '/dev/shm';
const areTwo = (await stat(tmpdir())).dev !== (await stat(elsewhere)).dev;

test('folders of the data directory, and those that are not there yet, are on its file system', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  await requireOneFileSystem(dir.path, [dir.path, join(dir.path, 'sandboxes')]);
});

test.runIf(areTwo)('one that is mounted from elsewhere is named', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  await expect(requireOneFileSystem(dir.path, [dir.path, elsewhere])).rejects.toThrow(
    `${elsewhere} is on another file system than ${dir.path}`,
  );
});
