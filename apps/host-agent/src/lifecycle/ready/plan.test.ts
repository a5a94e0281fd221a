import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compare, type Place, placesFor, type Wish } from './plan.ts';

const wish = (kind: string, kept: number, wanted: number): Wish => ({ kind, kept, wanted });
const kinds = (places: readonly Place[]) => places.map(({ kind, isKept }) => (isKept ? `${kind}!` : kind));

test('what is kept comes first, and counts towards what is wanted', () => {
  expect(kinds(placesFor([wish('a', 2, 3), wish('b', 0, 2)], 10))).toEqual(['a!', 'a!', 'b', 'b', 'a']);
});

test('places are shared out one by one when there are too few', () => {
  expect(kinds(placesFor([wish('a', 0, 20), wish('b', 0, 2)], 5))).toEqual(['a', 'b', 'a', 'b', 'a']);
});

test('what is wanted beyond all places takes no time', { timeout: 10_000 }, () => {
  expect(kinds(placesFor([wish('a', 0, 4e8), wish('b', 1, 4e8)], 3))).toEqual(['b!', 'a', 'a']);
});

test('a guest that no place is for goes first, then the one whose place matters least', () => {
  const places = placesFor([wish('a', 1, 0), wish('b', 0, 2)], 10);
  expect(compare(places, ['b', 'c', 'a'])).toEqual({
    missing: [{ kind: 'b', isKept: false }],
    surplus: [1],
    toGo: [1, 0, 2],
  });
});

const wishes = fc.uniqueArray(
  fc.record({ kind: fc.constantFrom('a', 'b', 'c', 'd'), kept: fc.nat(6), wanted: fc.nat(30) }),
  { selector: ({ kind }) => kind },
);

test('there are never more places than may be, nor more of a kind than its wish', () => {
  fc.assert(
    fc.property(wishes, fc.nat(40), (all, most) => {
      const places = placesFor(all, most);
      expect(places.length).toBeLessThanOrEqual(most);
      for (const { kind, kept, wanted } of all) {
        expect(places.filter((place) => place.kind === kind).length).toBeLessThanOrEqual(
          Math.max(kept, wanted),
        );
      }
    }),
  );
});

test('each guest stands in one place or in none, and each place has a guest or lacks one', () => {
  const standing = fc.array(fc.constantFrom('a', 'b', 'c', 'd', 'e'), { maxLength: 30 });
  fc.assert(
    fc.property(wishes, fc.nat(40), standing, (all, most, there) => {
      const places = placesFor(all, most);
      const { missing, surplus, toGo } = compare(places, there);
      expect(toGo.toSorted((a, b) => a - b)).toEqual(there.map((_, index) => index));
      expect(places.length - missing.length).toBe(there.length - surplus.length);
    }),
  );
});
