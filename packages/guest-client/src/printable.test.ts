import { expect, test } from 'vitest';
import { printable } from './printable.ts';

test('terminal escapes, line breaks and direction marks are shown, not sent', () => {
  expect(printable('a\u001b[31mb\nc\u202ed\u009be')).toBe('a\\u001b[31mb\\u000ac\\u202ed\\u009be');
});

test('long text is cut, also in the middle of a pair', () => {
  expect(printable('x'.repeat(1000))).toHaveLength(301);
  expect(printable('😀😀', 1)).toBe('\ufffd…');
});
