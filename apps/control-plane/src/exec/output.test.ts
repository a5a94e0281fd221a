import { expect, test } from 'vitest';
import { OutputCollector } from './output.ts';

function collect(limit: number, ...chunks: (string | Buffer)[]) {
  const collector = new OutputCollector(limit);
  for (const chunk of chunks) collector.push(Buffer.from(chunk as string));
  return collector.result();
}

test('output below the limit is whole', () => {
  expect(collect(10, 'ab', 'cd')).toEqual({ data: 'abcd', encoding: 'utf-8', truncated: false });
  expect(collect(4, 'ab', 'cd')).toEqual({ data: 'abcd', encoding: 'utf-8', truncated: false });
});

test('output past the limit is cut and says so', () => {
  expect(collect(3, 'ab', 'cd', 'ef')).toEqual({ data: 'abc', encoding: 'utf-8', truncated: true });
});

test('a character that the limit cuts in two is left out, and the rest stays text', () => {
  expect(collect(4, 'abc€')).toEqual({ data: 'abc', encoding: 'utf-8', truncated: true });
});

test('bytes that are no UTF-8 come as base64', () => {
  const bytes = Buffer.from([0x61, 0xff, 0x62]);
  expect(collect(10, bytes)).toEqual({ data: 'Yf9i', encoding: 'base64', truncated: false });
});

test('a character that the program itself left unfinished is no text', () => {
  expect(collect(10, Buffer.from([0xe2, 0x82])).encoding).toBe('base64');
});

test('no output is empty text', () => {
  expect(collect(10)).toEqual({ data: '', encoding: 'utf-8', truncated: false });
});
