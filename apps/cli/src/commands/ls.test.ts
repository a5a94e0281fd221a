import { expect, test } from 'vitest';
import { duration } from './ls.ts';

test('a duration has its two largest units', () => {
  const minute = 60_000;
  expect(duration(-5)).toBe('0 s');
  expect(duration(59_400)).toBe('59 s');
  expect(duration(59_600)).toBe('1 min 0 s');
  expect(duration(61 * minute)).toBe('1 h 1 min');
  expect(duration(49 * 60 * minute)).toBe('2 d 1 h');
});
