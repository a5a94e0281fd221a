/** Durations of the stages of an operation, milliseconds with one decimal; `total` is all of them so far. */
export class Stopwatch {
  readonly laps: Record<string, number> = {};
  readonly #start = performance.now();
  #last = this.#start;

  /** A part of the stage that was just done. */
  note(name: string, ms: number): void {
    this.laps[name] = round(ms);
  }

  lap(name: string): void {
    const at = performance.now();
    this.laps[name] = round(at - this.#last);
    this.laps.total = round(at - this.#start);
    this.#last = at;
  }
}

/** Since a time of `performance.now`. */
export function milliseconds(since: number): number {
  return round(performance.now() - since);
}

function round(exact: number): number {
  return Math.round(exact * 10) / 10;
}
