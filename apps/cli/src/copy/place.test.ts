import { expect, test } from 'vitest';
import { parsePlace, withName } from './place.ts';

const id = 'sb0123456789abcdefgh';

test('only what starts with an id is in a sandbox', () => {
  expect(parsePlace(`${id}:/tmp/a:b`)).toEqual({ kind: 'sandbox', id, path: '/tmp/a:b' });
  expect(parsePlace(`${id}:`)).toEqual({ kind: 'sandbox', id, path: '' });
  expect(parsePlace(`./${id}:x`)).toEqual({ kind: 'file', path: `./${id}:x` });
  expect(parsePlace('a:b')).toEqual({ kind: 'file', path: 'a:b' });
  expect(parsePlace(':x')).toEqual({ kind: 'file', path: ':x' });
  expect(parsePlace('-')).toEqual({ kind: 'standard' });
});

test('a path that ends in a slash keeps the name', () => {
  expect(withName('', 'x')).toBe('x');
  expect(withName('/tmp/', 'x')).toBe('/tmp/x');
  expect(withName('/tmp/y', 'x')).toBe('/tmp/y');
});
