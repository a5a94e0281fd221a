/** Which guests are to stand ready, of all kinds that somebody wants. */

export interface Wish {
  /** Of the guests: which creates they are for. */
  kind: string;
  /** So many stand ready whatever happens: somebody said so. */
  kept: number;
  /** So many are wanted by what was asked for lately. */
  wanted: number;
}

/** A guest each, from the one that matters most to the one that goes first when there is no room for all. */
export interface Place {
  kind: string;
  isKept: boolean;
}

/** @param most places in all: those that are wanted are shared out one by one, so that no kind goes without */
export function placesFor(wishes: readonly Wish[], most: number): Place[] {
  const kept = wishes.flatMap(({ kind, kept: count }) =>
    Array.from({ length: count }, (): Place => ({ kind, isKept: true })),
  );
  const places = kept.slice(0, most);
  const rounds = Math.max(0, ...wishes.map((wish) => wish.wanted));
  for (let round = 1; round <= rounds && places.length < most; round++) {
    for (const { kind, kept: count, wanted } of wishes) {
      if (round > count && round <= wanted && places.length < most) places.push({ kind, isKept: false });
    }
  }
  return places;
}

export interface Comparison {
  /** Places that nobody stands in, in their order. */
  missing: Place[];
  /** Guests that no place is for, as indexes. */
  surplus: number[];
  /** All guests as indexes, from the one that goes first: the surplus ones do. */
  toGo: number[];
}

/** @param standing kinds of the guests that stand ready */
export function compare(places: readonly Place[], standing: readonly string[]): Comparison {
  const free = new Map<string, number[]>();
  for (const [index, kind] of standing.entries()) free.set(kind, [...(free.get(kind) ?? []), index]);
  const missing: Place[] = [];
  const placed: number[] = [];
  for (const place of places) {
    const index = free.get(place.kind)?.shift();
    if (index === undefined) missing.push(place);
    else placed.push(index);
  }
  const surplus = [...free.values()].flat().sort((a, b) => a - b);
  return { missing, surplus, toGo: [...surplus, ...placed.reverse()] };
}
