import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseTimes, shareOfOthers, type Use, useOfProcessors } from './load.ts';

const before: Use = { busy: 100, own: 40, stolen: 0, all: 1000 };

test('the line of all processors is read, guests not twice', () => {
  const stat = 'cpu  10 20 30 400 50 6 7 8 9 1\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n';
  expect(parseTimes(stat)).toEqual({ busy: 73, stolen: 8, all: 531 });
});

test('what the run itself took is nobody else’s', () => {
  expect(shareOfOthers(before, { busy: 300, own: 240, stolen: 0, all: 1200 })).toBe(0);
});

test('what others took, and another machine, counts', () => {
  expect(shareOfOthers(before, { busy: 180, own: 100, stolen: 10, all: 1200 })).toBe(0.15);
});

property.prop([fc.nat(), fc.nat(), fc.nat(), fc.nat()])(
  'is a share whatever is read',
  (busy, own, stolen, all) => {
    const share = shareOfOthers(before, { busy, own, stolen, all });
    expect(share).toBeGreaterThanOrEqual(0);
    expect(share).toBeLessThanOrEqual(1);
  },
);

test('this machine tells it', () => {
  const { busy, own, all } = useOfProcessors();
  expect(own).toBeGreaterThan(0);
  expect(all).toBeGreaterThanOrEqual(busy);
});
