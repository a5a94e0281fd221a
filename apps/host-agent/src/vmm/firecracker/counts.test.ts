import { expect, test } from 'vitest';
import { Counters } from '../counters.ts';
import { CountedLines } from './counts.ts';

function counted(...parts: string[]): Record<string, number> {
  const counters = new Counters();
  const lines = new CountedLines(counters);
  for (const part of parts) lines.take(Buffer.from(part));
  return Object.fromEntries(counters.list().map(({ of, counter, value }) => [`${of}.${counter}`, value]));
}

const line = (read: unknown, more = {}) =>
  `${JSON.stringify({ utc_timestamp_ms: 1, block: { read_bytes: read, update_count: 3 }, ...more })}\n`;

test('each flush adds to the sums, in however many parts it comes', () => {
  const text = `${line(5, { net: { rx_fails: 1 } })}${line(7)}`;
  expect(counted(text)).toEqual({ 'block.read_bytes': 12, 'net.rx_fails': 1 });
  expect(counted(...text.split(''))).toEqual({ 'block.read_bytes': 12, 'net.rx_fails': 1 });
});

test.each([
  ['{"block": {"read_bytes": 5', 'a line that does not end'],
  ['{"block": {"read_by\n', 'one that was cut off'],
  ['null\n[]\n7\n""\n\n', 'what is no object'],
  ['{"block": null, "net": 5}\n', 'groups that are none'],
  [line('5'), 'a text'],
  [line(-5), 'less than nothing'],
  [line(1e300), 'what is too much'],
  [`${'x'.repeat(300_000)}`, 'a line without end'],
])('%j is nothing: %s', (text) => {
  expect(counted(text)).toEqual({});
});

test('a line after one that was cut off counts', () => {
  expect(counted('{"block": {"re', `\n${line(4)}`)).toEqual({ 'block.read_bytes': 4 });
});
