import fc from 'fast-check';
import { expect, test } from 'vitest';
import { asked, type Demand, noDemand, wanted } from './demand.ts';

const minuteMs = 60_000;

/** Creates with so many milliseconds before each. */
function after(
  pauses: readonly number[],
  from: Demand = noDemand,
  start = 0,
): { demand: Demand; now: number } {
  let demand = from;
  let now = start;
  for (const pause of pauses) {
    now += pause;
    demand = asked(demand, now);
  }
  return { demand, now };
}

const many = (count: number, pauseMs: number) => Array.from({ length: count }, () => pauseMs);

test('a burst wants as many as it took', () => {
  const { demand, now } = after(many(20, 15));
  expect(wanted(demand, now)).toBe(20);
  expect(wanted(demand, now + 5 * minuteMs)).toBe(20);
});

test('one create wants none, and creates that come slower than guests are made want none either', () => {
  expect(wanted(after([0]).demand, 0)).toBe(0);
  const { demand, now } = after(many(500, 1500));
  expect(wanted(demand, now)).toBe(0);
});

test('creates that come faster than guests are made want more and more', () => {
  const { demand, now } = after(many(60, 500));
  expect(wanted(demand, now)).toBeGreaterThan(30);
});

test('what is wanted goes down by and by, to nothing', () => {
  const { demand, now } = after(many(20, 15));
  const each = Array.from({ length: 40 }, (_, half) => wanted(demand, now + (half * minuteMs) / 2));
  expect(each).toEqual(each.toSorted((a, b) => b - a));
  expect(wanted(demand, now + 7 * minuteMs)).toBe(10);
  expect(each.at(-1)).toBe(0);
});

test('a burst that comes again is not added to the one before', () => {
  const first = after(many(20, 15));
  const second = after([minuteMs, ...many(19, 15)], first.demand, first.now);
  expect(wanted(second.demand, second.now)).toBe(20);
});

test('never more are wanted than there were creates, and never fewer for a create more', () => {
  const pauses = fc.array(fc.integer({ min: 0, max: 20 * minuteMs }), { maxLength: 50 });
  fc.assert(
    fc.property(pauses, fc.integer({ min: 0, max: 20 * minuteMs }), (before, later) => {
      const { demand, now } = after(before);
      const at = now + later;
      expect(wanted(demand, at)).toBeLessThanOrEqual(before.length);
      expect(wanted(asked(demand, at), at)).toBeGreaterThanOrEqual(wanted(demand, at));
      expect(wanted(demand, at + 1000)).toBeLessThanOrEqual(wanted(demand, at));
    }),
  );
});
