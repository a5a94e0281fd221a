import { expect, test } from 'vitest';
import { configurationOf } from './configuration.ts';

test('each descriptor is named by the number that the program finds it as', () => {
  const [one, two] = ['0'.repeat(31), '1'.repeat(31)].map((zeros) => `${zeros}a`) as [string, string];
  const memfiles = new Map([
    [one, 40],
    [two, 50],
  ]);
  const { descriptors, text } = configurationOf({ header: 30, memfiles, socket: 20, metrics: 10 });
  expect(descriptors).toEqual([30, 40, 50, 20, 10]);
  expect(JSON.parse(text)).toEqual({
    header: 3,
    memfiles: { [one]: 4, [two]: 5 },
    socket: 6,
    metrics: 7,
  });
  const set = { record: 60, prefetch: { from: 70, limitMib: 64 } };
  const more = configurationOf({ header: 30, memfiles, socket: 20, metrics: 10, ...set });
  expect(more.descriptors.slice(5)).toEqual([60, 70]);
  expect(JSON.parse(more.text)).toMatchObject({ record: 8, prefetch: { from: 9, limit_mib: 64 } });
});
