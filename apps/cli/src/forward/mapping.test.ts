import { expect, test } from 'vitest';
import { mapping } from './mapping.ts';

test('ports are written with a colon, or one for both', () => {
  expect(mapping('8080:80')).toEqual([{ local: 8080, port: 80 }]);
  expect(mapping('0:5432', mapping('80'))).toEqual([
    { local: 80, port: 80 },
    { local: 0, port: 5432 },
  ]);
});

test.each(['', ':80', '80:', '0', '1:0', '65536', '65536:1', '1:65536', 'a:1', '1:2:3', '-1'])(
  '%s is none',
  (text) => {
    expect(() => mapping(text)).toThrow('LOCAL:PORT');
  },
);
