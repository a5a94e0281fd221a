/** The longest delay a Node timer takes, ms. */
const longestMs = 2 ** 31 - 1;

/**
 * Ends of life. A timer looks at the deadline again when it fires, so that activity, which only moves the
 * deadline back, never touches a timer.
 */
export class Expiry implements Disposable {
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #deadline: (id: string) => Date | null | undefined;
  readonly #expired: (id: string) => void;

  constructor(deadline: (id: string) => Date | null | undefined, expired: (id: string) => void) {
    this.#deadline = deadline;
    this.#expired = expired;
  }

  /** Starts to watch a deadline, or takes over one that came nearer. */
  arm(id: string): void {
    clearTimeout(this.#timers.get(id));
    const deadline = this.#deadline(id);
    if (!deadline) {
      this.#timers.delete(id);
      return;
    }
    const delay = Math.min(Math.max(deadline.getTime() - Date.now(), 0), longestMs);
    this.#timers.set(
      id,
      setTimeout(() => this.#fire(id), delay),
    );
  }

  /** Watches a deadline that nothing watches any more. */
  watch(id: string): void {
    if (!this.#timers.has(id)) this.arm(id);
  }

  disarm(id: string): void {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  #fire(id: string): void {
    const deadline = this.#deadline(id);
    if (deadline && deadline.getTime() <= Date.now()) {
      this.#timers.delete(id);
      this.#expired(id);
    } else {
      this.arm(id);
    }
  }
}
