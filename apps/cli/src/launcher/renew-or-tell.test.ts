import { mkdir, mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tlsFiles } from '../tls/index.ts';
import { renewOrTell } from './renew-or-tell.ts';

test('a certificate that cannot be renewed is told, and is no error', async () => {
  await using dataDir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const files = tlsFiles(dataDir.path);
  await mkdir(files.dir);
  await writeFile(files.certificate, 'nonsense');
  const told: string[] = [];
  const owner = { name: 'somebody', uid: 4711, gid: 4712, home: '/' };
  expect(await renewOrTell(files, owner, (problem) => told.push(problem))).toBe(false);
  expect(told).toEqual([`${files.certificate} is no certificate.`]);
});
