import { fc, test } from '@fast-check/vitest';
import { isPerchError } from '@perch/protocol';
import { expect } from 'vitest';
import { maxDepth, parseJson } from './json-body.ts';

const parse = (text: string | Buffer) => parseJson(Buffer.from(text as string));
const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);

test.prop([fc.jsonValue({ maxDepth: 8 })])('JSON is parsed as JSON.parse does', (value) => {
  const text = JSON.stringify(value);
  if (text.includes('__proto__') || !text.isWellFormed()) return;
  expect(parse(text)).toEqual(JSON.parse(text));
});

test('brackets inside strings do not count as depth', () => {
  expect(parse(JSON.stringify({ a: '[{\\"'.repeat(100) }))).toBeDefined();
  expect(parse(nested(maxDepth))).toBeDefined();
});

test.each([
  ['deep nesting', nested(maxDepth + 1)],
  ['very deep nesting', '[{"a":'.repeat(100_000)],
  ['half a surrogate pair', '{"a":"\\ud800"}'],
  ['a prototype', '{"__proto__":{"vcpus":1}}'],
  ['an escaped prototype', '{"\\u005f_proto__":1}'],
  ['no JSON', '{vcpus:1}'],
  ['an unfinished string', '{"a":"'],
  ['bytes that are no UTF-8', Buffer.from([0x22, 0xff, 0x22])],
])('%s is refused', (_name, text) => {
  try {
    parse(text as string);
  } catch (error) {
    expect(isPerchError(error, 'malformed_body')).toBe(true);
    return;
  }
  expect.unreachable();
});
