import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { printable, quoted } from './printable.ts';

/** Any code units, also halves of pairs, and often what a terminal obeys. */
const foreign = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.array(fc.integer({ min: 0, max: 0xffff })).map((units) => String.fromCharCode(...units)),
  fc.string({
    unit: fc.constantFrom('\u001b', '\u009b', '\u202e', '\u2066', '\u200d', '\ufeff', '\u{e0041}', 'a', '😀'),
  }),
);
const harmful = [
  ...Array.from({ length: 0x20 }, (_, code) => code),
  ...Array.from({ length: 0x21 }, (_, code) => 0x7f + code),
  ...[0xad, 0x61c, 0x180e, 0x2028, 0x2029, 0xfeff, 0xfff9, 0xe0001, 0xe0020, 0x1d173],
  ...Array.from({ length: 0x10 }, (_, code) => 0x200b + code).filter(
    (code) => code < 0x2010 || code > 0x2027,
  ),
  ...Array.from({ length: 0x10 }, (_, code) => 0x2060 + code),
  ...[0x202a, 0x202b, 0x202c, 0x202d, 0x202e],
].map((code) => String.fromCodePoint(code));

test.each([
  ['a\u001b[31mb\nc\u202ed\u009be', 'a\\u001b[31mb\\u000ac\\u202ed\\u009be'],
  ['half \ud83d', 'half \\ud83d'],
  ['tag \u{e0041}', 'tag \\u{e0041}'],
  ['größe 大 😀', 'größe 大 😀'],
])('%j is shown as %j', (text, shown) => expect(printable(text)).toBe(shown));

test('nothing that a terminal obeys, and nothing that is drawn as nothing, gets through', () => {
  expect(harmful.filter((one) => printable(`a${one}b`).includes(one))).toEqual([]);
});

property.prop([foreign])(
  'whatever comes, the rest is one line of well-formed text, and shown the same again',
  (text) => {
    const shown = printable(text);
    expect(shown).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    expect(shown.isWellFormed()).toBe(true);
    expect(printable(shown)).toBe(shown);
  },
);

property.prop([foreign, fc.integer({ min: 1, max: 40 })])('a quote is cut to its length', (text, length) => {
  const shown = quoted(text, length);
  expect(shown.length).toBeLessThanOrEqual(length + 1);
  expect(shown.isWellFormed()).toBe(true);
  expect(printable(shown)).toBe(shown);
  if (!shown.endsWith('…')) expect(shown).toBe(printable(text.trim()));
});

test('long text is cut, also in the middle of a pair', () => {
  expect(quoted('x'.repeat(1000))).toHaveLength(301);
  expect(quoted('😀😀', 1)).toBe('…');
});
