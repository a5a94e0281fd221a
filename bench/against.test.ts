import { expect, test } from 'vitest';
import { compare, type Round } from './against.ts';
import { figure } from './figures.ts';

const round = (here: number, there: number, others = 0): Round => ({
  here: [figure({ name: 'exec', unit: 'ms', samples: [here] }, others)],
  there: [figure({ name: 'exec', unit: 'ms', samples: [there] }, 0)],
});

test('two checkouts are compared round by round', () => {
  expect(compare([round(1, 2), round(30, 40, 0.2), round(6, 10)])).toEqual([
    {
      ...{ name: 'exec', unit: 'ms', rounds: 3, here: 6, there: 10 },
      ...{ ratio: 0.6, ratio_least: 0.5, ratio_most: 0.75, others: 0.2 },
    },
  ]);
});

test('a figure that only one of them has is left out', () => {
  const { here } = round(1, 1);
  expect(compare([{ here, there: [] }])).toEqual([]);
});

test('a checkout that does not tell who else was at work is compared all the same', () => {
  const { here, there } = round(1, 1);
  const old = there.map(({ name, unit, p50 }) => ({ name, unit, p50 }) as (typeof there)[number]);
  expect(compare([{ here, there: old }])[0]).toMatchObject({ ratio: 1, others: 0 });
});
