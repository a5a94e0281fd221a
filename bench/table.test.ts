import { expect, test } from 'vitest';
import { figure } from './figures.ts';
import { line } from './table.ts';

test('a figure is told in a line, beside its floor where it has one', () => {
  const samples = [1, 2, 3];
  expect(line(figure({ name: 'create', unit: 'ms', samples, floor: [1] }, 0))).toBe(
    '  create: p50 2 ms, 2 × its floor',
  );
  expect(line(figure({ name: 'memory', unit: 'MB', samples: [7] }, 0))).toBe('  memory: 7 MB');
});
