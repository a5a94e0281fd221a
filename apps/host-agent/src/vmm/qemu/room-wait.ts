/**
 * The wait of a guest for room on the host's disk. QEMU stops a machine that writes to a full disk and keeps the
 * request (`werror=enospc`), but never looks again: so the machine is let go every now and then. QEMU repeats the
 * request, and stops the machine again while it fails.
 */

export interface RoomWaitOptions {
  /** State of the machine, `RunState` in qapi/run-state.json. */
  status: () => Promise<string>;
  /** Lets the machine go. */
  go: () => Promise<unknown>;
  /** Pauses between two tries, milliseconds; the last repeats. */
  retryMs: readonly number[];
}

/** State of a machine that was stopped because a request failed. Nothing that Perch does leads there. */
export const standsStill = 'io-error';

export class RoomWait {
  readonly #options: RoomWaitOptions;
  #lacks = false;
  #tries = 0;
  #held = false;
  #over = false;
  #timer: NodeJS.Timeout | undefined;
  #listener: (lacks: boolean) => void = () => {};
  /** Those who wait for the want of room, and whether the machine has run, or was let go, since. */
  readonly #waiting = new Map<() => void, boolean>();

  constructor(options: RoomWaitOptions) {
    this.#options = options;
  }

  /** Whether the machine stands still until there is room. */
  get lacks(): boolean {
    return this.#lacks;
  }

  /** Has `listener` told when that changes, and at once when it is so; in place of the one before. */
  watch(listener: (lacks: boolean) => void): void {
    this.#listener = listener;
    if (this.#lacks) listener(true);
  }

  /**
   * Resolves once it lacks room as of now, and is given up with `signal`. A machine that stood still before is let go at
   * once: there may be room that nobody has looked for.
   */
  untilLacks(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.set(resolve, !this.#lacks);
    signal.addEventListener('abort', () => this.#waiting.delete(resolve), { once: true });
    if (this.#lacks) this.#sooner();
    return promise;
  }

  /** The machine was stopped since there is no room. Safe to repeat. */
  begin(): void {
    if (this.#over) return;
    if (!this.#lacks) {
      this.#lacks = true;
      this.#tries = 0;
      this.#listener(true);
      this.#tell();
    }
    this.#later();
  }

  /** Perch itself stops the machine: nothing here lets it go until `letGo`. */
  hold(): void {
    this.#held = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  letGo(): void {
    this.#held = false;
    if (this.#lacks) this.#later();
  }

  /** Nothing happens any more. */
  stop(): void {
    this.#over = true;
    this.hold();
  }

  /** Those who have seen it run. */
  #tell(): void {
    for (const [tell, hasRun] of this.#waiting) {
      if (!hasRun) continue;
      this.#waiting.delete(tell);
      tell();
    }
  }

  #sooner(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#tries = 0;
    this.#later(0);
  }

  #later(ms = this.#options.retryMs[Math.min(this.#tries, this.#options.retryMs.length - 1)]): void {
    if (this.#timer || this.#held) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      // A monitor that does not answer is asked again.
      void this.#try().catch(() => this.#later());
    }, ms).unref();
  }

  async #try(): Promise<void> {
    this.#tries++;
    const status = await this.#options.status();
    // In one breath with the command: a machine that Perch has stopped meanwhile is not let go.
    if (this.#held) return;
    const lacks = status === standsStill;
    if (lacks) this.#tell();
    for (const waiting of this.#waiting.keys()) this.#waiting.set(waiting, true);
    if (!lacks) {
      this.#lacks = false;
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#listener(false);
      return;
    }
    await this.#options.go();
    this.#later();
  }
}
