import { writeFileSync } from 'node:fs';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { pressureOf } from './pressure.ts';

test('the pressure is the share of the last ten seconds in which somebody waited', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-pressure-'));
  const file = join(dir.path, 'cpu');
  writeFileSync(
    file,
    'some avg10=55.82 avg60=51.69 avg300=32.13 total=162372431\nfull avg10=1.00 avg60=0 avg300=0 total=0\n',
  );
  expect(pressureOf('cpu', file)).toBe(55.82);
  writeFileSync(file, 'nonsense\n');
  expect(pressureOf('cpu', file)).toBeUndefined();
});

test('a kernel that does not say puts no pressure on anything', () => {
  expect(pressureOf('memory', '/proc/there-is-none')).toBeUndefined();
});
