/** Work that is under way beside other work. The first that fails breaks off the rest. */
export class Together {
  /** Aborted by the first failure, too, whose error is the reason then. */
  readonly signal: AbortSignal;
  readonly #abort = new AbortController();
  readonly #most: number;
  readonly #underWay = new Set<Promise<void>>();
  #taken = 0;
  #freed = () => {};

  /** @param most of what `startInTurn` starts, at once */
  constructor(signal: AbortSignal, most: number) {
    this.signal = AbortSignal.any([signal, this.#abort.signal]);
    this.#most = most;
  }

  /** @param among holds it while it is under way. Never rejects: `end` says what failed. */
  start(work: () => Promise<void>, among?: Set<Promise<void>>): Promise<void> {
    const over = work()
      .catch((error: unknown) => this.#abort.abort(error))
      .then(() => {
        this.#underWay.delete(over);
        among?.delete(over);
      });
    this.#underWay.add(over);
    among?.add(over);
    return over;
  }

  /** Resolves when it has begun, for which it waits until there is room. For one caller at a time. */
  async startInTurn(work: () => Promise<void>, among: Set<Promise<void>>): Promise<void> {
    if (this.#taken === this.#most) {
      await new Promise<void>((resolve) => {
        this.#freed = resolve;
      });
    }
    this.signal.throwIfAborted();
    this.#taken++;
    // After a failure has been noted, so that none follows it.
    void this.start(work, among).then(() => {
      this.#taken--;
      this.#freed();
    });
  }

  /** Waits for all that was started, whatever became of it. @throws what failed first, or the reason of the signal */
  async end(): Promise<void> {
    await Promise.all(this.#underWay);
    this.signal.throwIfAborted();
  }
}
