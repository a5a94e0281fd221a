import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { settingNames } from './settings.ts';

test('every setting that is documented is known', () => {
  const text = readFileSync(join(import.meta.dirname, '../../../../docs/OPERATIONS.md'), 'utf8');
  const names = [...text.matchAll(/`(PERCH_[A-Z_]+)`/g)].map(([, name]) => name ?? '');
  expect(names.length).toBeGreaterThan(20);
  const env = Object.fromEntries(names.map((name) => [name, 'x']));
  expect(settingNames(env)).toMatchObject({ status: 'ok' });
});

test('one that nothing reads is named', () => {
  expect(
    settingNames({ PERCH_NETWROK: '10.0.0.0/16', PERCH_DISK: 'x', PERCH_LISTEN: 'y', PATH: 'z' }),
  ).toMatchObject({
    status: 'warning',
    detail: 'PERCH_NETWROK, PERCH_DISK: nothing of Perch reads it',
    remedy: expect.stringContaining('OPERATIONS'),
  });
  expect(settingNames({})).toMatchObject({ status: 'ok' });
});
