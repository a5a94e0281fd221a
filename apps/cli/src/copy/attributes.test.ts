import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { secondsOf, timeOf } from './attributes.ts';

test.each([
  [0n, '1970-01-01T00:00:00.000000000Z', 0],
  [1_700_000_000_123_456_789n, '2023-11-14T22:13:20.123456789Z', 1_700_000_000.123457],
  [-1n, '1969-12-31T23:59:59.999999999Z', -1e-9],
])('%s ns are %s', (ns, text, seconds) => {
  expect(timeOf(ns)).toBe(text);
  expect(secondsOf(text)).toBeCloseTo(seconds, 6);
});

test('a year of five digits has no such text', () =>
  expect(timeOf(253_402_300_800_000_000_000n)).toBeUndefined());

test.each([undefined, '', 'soon', '2023-11-14', '2023-13-14T22:13:20Z', '2023-11-14T22:13:20.1234567890Z'])(
  '%j is no time',
  (text) => expect(secondsOf(text)).toBeUndefined(),
);

property.prop([fc.bigInt(-62_167_219_200_000_000_000n, 253_402_300_799_999_999_999n)])(
  'a time comes back',
  (ns) => {
    expect(Math.abs((secondsOf(timeOf(ns)) ?? Number.NaN) - Number(ns) / 1e9)).toBeLessThan(1e-4);
  },
);
