/** Sums of what monitors, and what serves them, have counted: of all VMs that this process has looked after. */
export interface Counted {
  /** The part that counts: `block`, `pager`. */
  of: string;
  counter: string;
  value: number;
}

export class Counters {
  readonly #counted = new Map<string, Counted>();

  /** @param by nothing is added unless it is above 0: whoever counts may be broken */
  add(of: string, counter: string, by: number): void {
    if (!Number.isSafeInteger(by) || by <= 0) return;
    const key = `${of} ${counter}`;
    const one = this.#counted.get(key) ?? { of, counter, value: 0 };
    one.value += by;
    this.#counted.set(key, one);
  }

  list(): Counted[] {
    return [...this.#counted.values()];
  }
}
