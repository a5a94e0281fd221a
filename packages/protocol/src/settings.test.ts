import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readSettings } from './settings.ts';

const dataDirOf = (path: string) => readSettings({ PERCH_DATA_DIR: path }).dataDir;

test('a data directory is named as the kernel names it, however it was typed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'perch-test-'));
  using _ = { [Symbol.dispose]: () => rmSync(folder, { recursive: true }) };
  const real = join(folder, 'real');
  mkdirSync(real);
  symlinkSync(real, join(folder, 'link'));
  for (const name of ['real', 'real/', 'link', 'link/', './real/.', 'link/../real']) {
    expect(dataDirOf(`${folder}/${name}`)).toBe(real);
  }
});

test('one that is not there yet, or is relative, is left to be made or refused', () => {
  expect(dataDirOf('/nonexistent/perch//')).toBe('/nonexistent/perch');
  expect(dataDirOf('state/perch')).toBe('state/perch');
  expect(dataDirOf('')).toMatch(/^\//);
});
