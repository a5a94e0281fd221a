import { fc, test } from '@fast-check/vitest';
import { isPerchError, templateNamePattern } from '@perch/protocol';
import { expect } from 'vitest';
import { pageByName } from './name-page.ts';

const names = fc.uniqueArray(fc.stringMatching(new RegExp(templateNamePattern)), { maxLength: 20 });

test.prop([names, fc.integer({ min: 1, max: 7 })])('pages together are the list', (unsorted, limit) => {
  const all = unsorted.toSorted().map((name) => ({ name }));
  const seen: typeof all = [];
  let cursor: string | undefined;
  do {
    const page = pageByName(all, limit, cursor);
    expect(page.items.length).toBeLessThanOrEqual(limit);
    seen.push(...page.items);
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined);
  expect(seen).toEqual(all);
});

test('what goes or comes between two pages makes none of the others come twice or not at all', () => {
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => ({ name }));
  if (!a || !b || !c || !d) throw new Error('four');
  const { next_cursor } = pageByName([a, b, d], 2, undefined);
  expect(pageByName([a, c, d], 2, next_cursor ?? '')).toEqual({ items: [c, d], next_cursor: null });
});

test.prop([fc.string()])('what is no cursor is refused with its name', (text) => {
  try {
    pageByName([], 1, text);
  } catch (error) {
    expect(isPerchError(error, 'validation_failed')).toBe(true);
  }
});
