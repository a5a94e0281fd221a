/**
 * How many guests of one kind the creates of the last minutes would have found a use for. A create takes one, and one
 * is made up for in a while; the most that were ever away at once are wanted. Times are milliseconds that never go back.
 */

/** After a create nothing is made up for. */
const quietMs = 300;
/** One is made up for in this time. */
const refillMs = 700;
/** What is wanted stays so, and goes down by half in each `halfLifeMs` afterwards. */
const holdMs = 5 * 60_000;
const halfLifeMs = 2 * 60_000;
/** A create alone says nothing of a next one. */
const fewest = 2;

export interface Demand {
  /** Taken and not made up for when the last create came. */
  readonly away: number;
  readonly at: number;
  /** The most that were away, and when. */
  readonly peak: number;
  readonly peakAt: number;
}

export const noDemand: Demand = { away: 0, at: Number.NEGATIVE_INFINITY, peak: 0, peakAt: 0 };

/** After one more create. */
export function asked(demand: Demand, now: number): Demand {
  const madeUp = Math.max(0, now - demand.at - quietMs) / refillMs;
  const away = Math.max(0, demand.away - madeUp) + 1;
  return away >= peakOf(demand, now)
    ? { away, at: now, peak: away, peakAt: now }
    : { ...demand, away, at: now };
}

/** Guests that are to stand ready: 0 when there was no more than one create at a time. */
export function wanted(demand: Demand, now: number): number {
  const peak = Math.ceil(peakOf(demand, now) - 1e-6);
  return peak < fewest ? 0 : peak;
}

function peakOf({ peak, peakAt }: Demand, now: number): number {
  return peak * 2 ** -(Math.max(0, now - peakAt - holdMs) / halfLifeMs);
}
