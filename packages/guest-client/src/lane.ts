/** A bounded number of requests of one kind, so that one kind leaves connections to the others. */
import { PerchError } from '@perch/protocol';

export interface LaneOptions {
  /** Of the requests, as a sentence about a limit names them. */
  name: string;
  /** Requests at once. */
  limit: number;
  /** How long a request waits for another to end, ms. 0: it is refused at once; Infinity: until its signal. */
  waitMs: number;
  sandboxId: string;
}

export class Lane {
  readonly #options: LaneOptions;
  readonly #waiting = new Set<() => void>();
  #taken = 0;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  /**
   * Resolves when the request may go, to what is called once it is over.
   * @throws sandbox_busy, or the reason of the signal
   */
  async enter(signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.#taken < this.#options.limit) this.#taken++;
    else await this.#turn(signal);
    let over = false;
    return () => {
      if (!over) this.#leave();
      over = true;
    };
  }

  /** Passes the place on to the one that has waited longest. */
  #leave(): void {
    const [next] = this.#waiting;
    if (next) next();
    else this.#taken--;
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    const { waitMs } = this.#options;
    if (waitMs === 0) throw this.#full();
    return new Promise((resolve, reject) => {
      const settle = (outcome: () => void) => {
        this.#waiting.delete(go);
        clearTimeout(timer);
        signal?.removeEventListener('abort', cancel);
        outcome();
      };
      const go = () => settle(resolve);
      const cancel = () => settle(() => reject(signal?.reason));
      const late = () => settle(() => reject(this.#full()));
      const timer = waitMs === Number.POSITIVE_INFINITY ? undefined : setTimeout(late, waitMs);
      signal?.addEventListener('abort', cancel, { once: true });
      this.#waiting.add(go);
    });
  }

  #full(): PerchError {
    const { name, limit, sandboxId: id } = this.#options;
    const message = `Sandbox ${id} has ${limit} ${name} under way, and takes no more at once.`;
    return new PerchError('sandbox_busy', message, { id, limit });
  }
}
