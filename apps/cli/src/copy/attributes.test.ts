import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { onDisk, secondsOf, timeOf } from './attributes.ts';

test.each([
  [0n, '1970-01-01T00:00:00.000000000Z', 0],
  [1_700_000_000_123_456_789n, '2023-11-14T22:13:20.123456789Z', 1_700_000_000.123457],
  [-1n, '1969-12-31T23:59:59.999999999Z', -1e-9],
])('%s ns are %s', (ns, text, seconds) => {
  expect(timeOf(ns)).toBe(text);
  expect(secondsOf(text)).toBeCloseTo(seconds, 6);
});

test('a disk of a sandbox has times from 1901 to 2446, and the nearest of others', () => {
  const [first, last] = [-(2n ** 31n), 2n ** 34n - 2n ** 31n - 1n].map((seconds) => seconds * 1_000_000_000n);
  expect([-(2n ** 70n), 5n, 2n ** 70n].map(onDisk)).toEqual([first, 5n, last]);
  expect([first, last].map((ns) => timeOf(ns ?? 0n)?.slice(0, 19))).toEqual([
    '1901-12-13T20:45:52',
    '2446-05-10T22:38:55',
  ]);
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
