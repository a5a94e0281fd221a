import { fc, test } from '@fast-check/vitest';
import { expect } from 'vitest';
import { unconfirmed } from './identity.ts';

const all = ['clock', 'entropy', 'hostname', 'machineId', 'token', 'environment', 'user', 'connections'];

test('a guest that confirmed everything of this generation is accepted', () => {
  expect(unconfirmed(JSON.stringify({ generation: 3, confirmed: all }), 3)).toEqual([]);
});

test('a guest that left out a point, or answers for another life, is not', () => {
  expect(unconfirmed(JSON.stringify({ generation: 3, confirmed: all.slice(1) }), 3)).toEqual(['clock']);
  expect(unconfirmed(JSON.stringify({ generation: 2, confirmed: all }), 3)).toEqual(['generation']);
});

test.prop([fc.oneof(fc.string(), fc.json())])(
  'whatever else a guest answers is not a confirmation',
  (text) => {
    expect(unconfirmed(text, 1).length).toBeGreaterThan(0);
  },
);
