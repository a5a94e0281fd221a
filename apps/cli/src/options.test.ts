import { expect, test } from 'vitest';
import { defined, keyValue, wholeNumber } from './options.ts';

test('a pair is split at its first equals sign, and pairs add up', () => {
  expect(keyValue('a=b=c')).toEqual({ a: 'b=c' });
  expect(keyValue('d=', { a: 'b' })).toEqual({ a: 'b', d: '' });
  for (const text of ['a', '=a', '']) expect(() => keyValue(text)).toThrow('Write it as KEY=VALUE.');
});

test('a number is whole', () => {
  expect(wholeNumber('MiB')('512')).toBe(512);
  for (const text of ['1.5', '-1', '1e3', '', 'x', ' 1']) {
    expect(() => wholeNumber('MiB')(text)).toThrow('whole number of MiB');
  }
});

test('what has no value is left out', () => {
  expect(defined({ a: undefined, b: 0, c: false })).toEqual({ b: 0, c: false });
});
