/**
 * Guests of one shape that stand still until a create takes one over: restored, warmed up, and stopped. They use no
 * CPU, and their memory is there for whoever needs it: see `giveWay`.
 */
import type { Logger } from 'pino';
import type { SandboxDriver } from '../sandbox/index.ts';

export interface PrewarmedPoolOptions {
  /** How many stand ready. */
  size: number;
  /** Makes one. Undefined when there is no room. When `signal` aborts it gives up, and leaves nothing. */
  make: (signal: AbortSignal) => Promise<SandboxDriver | undefined>;
  /** Milliseconds without a create before the next is made, so that none of them has to share the CPU with it. */
  quietMs: number;
  /** Milliseconds until it is tried again when there was no room, or it could not be made. */
  againMs: number;
  log: Logger;
}

export class PrewarmedPool {
  readonly #options: PrewarmedPoolOptions;
  #ready: SandboxDriver[] = [];
  #timer: NodeJS.Timeout | undefined;
  #making: { done: Promise<void>; giveUp: AbortController } | undefined;
  #stopped = false;

  constructor(options: PrewarmedPoolOptions) {
    this.#options = options;
  }

  start(): void {
    this.#later(0);
  }

  /** The first that suits, which is the caller's from then on; another takes its place. */
  take(suits: (driver: SandboxDriver) => boolean): SandboxDriver | undefined {
    const at = this.#ready.findIndex(suits);
    return at < 0 ? undefined : this.#ready.splice(at, 1)[0];
  }

  /** Puts the next off: somebody else needs the CPU. */
  quiet(): void {
    if (this.#options.size > 0) this.#later(this.#options.quietMs);
  }

  /** One ended by itself. */
  lost(id: string): void {
    const driver = this.take((one) => one.id === id);
    if (!driver) return;
    void this.#destroy([driver]);
    this.#later(this.#options.againMs);
  }

  /** Gives all memory back, also of the one that is being made, and keeps off for a while. */
  async giveWay(): Promise<void> {
    this.#later(this.#options.againMs);
    this.#making?.giveUp.abort(new Error('Its memory is needed.'));
    await this.#making?.done;
    await this.#destroy(this.#ready.splice(0));
  }

  async stop(): Promise<void> {
    this.halt();
    await this.giveWay();
  }

  /** Makes no more. */
  halt(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #later(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      if (this.#making) return;
      const giveUp = new AbortController();
      const done = this.#make(giveUp.signal).finally(() => {
        this.#making = undefined;
      });
      this.#making = { done, giveUp };
    }, ms).unref();
  }

  async #make(signal: AbortSignal): Promise<void> {
    const { size, make, quietMs, againMs, log } = this.#options;
    if (this.#stopped || this.#ready.length >= size) return;
    try {
      const driver = await make(signal);
      if (driver) this.#ready.push(driver);
      this.#later(driver ? quietMs : againMs);
    } catch (err) {
      if (!signal.aborted) log.warn({ err }, 'no guest could be made ready');
      this.#later(againMs);
    }
  }

  async #destroy(drivers: readonly SandboxDriver[]): Promise<void> {
    await Promise.allSettled(drivers.map((driver) => driver.destroy()));
  }
}
