import { stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import { table } from './output.ts';

test('columns are as wide as they need to be', () => {
  const text = table(
    ['ID', 'X'],
    [
      ['a', 'long'],
      ['bcd', ''],
    ],
  );
  expect(stripVTControlCharacters(text).split('\n')).toEqual(['ID   X', 'a    long', 'bcd']);
});
