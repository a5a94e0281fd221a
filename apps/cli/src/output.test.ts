import { stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import { printable, table } from './output.ts';

test("a terminal does not obey somebody else's text", () => {
  expect(printable('a\u001b[2J\u009b1m\rb\u202e')).toBe('a\\u001b[2J\\u009b1m\\u000db\\u202e');
  expect(printable('größe 大')).toBe('größe 大');
});

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
