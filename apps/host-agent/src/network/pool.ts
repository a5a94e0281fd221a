/**
 * Which slot is whose. Slots are made ahead, one at a time in the background; a number that was given back
 * rests before it is used again, and the one that rested longest comes first.
 *
 * A number is in one place at a time: never used, resting, being made, ready, used, being removed, or remains
 * (it could be neither made nor removed yet). Of one that is never used or rests nothing exists.
 */
import { PerchError } from '@perch/protocol';
import type { Logger } from 'pino';

export interface SlotMaker {
  /** Makes all of a slot. May leave parts behind when it rejects. */
  make(number: number): Promise<void>;
  /** Removes what is there of a slot, which may be nothing. */
  remove(number: number): Promise<void>;
}

export interface SlotPoolOptions {
  /** Slots are 1..total. */
  total: number;
  /** Slots made ahead. */
  size: number;
  quarantineMs: number;
  maker: SlotMaker;
  /** The number to begin with. It differs from start to start, so that numbers of the last life rest too. */
  first: number;
  /** Milliseconds that never go back. */
  now: () => number;
  /** Before a slot that was taken is replaced while others stand ready, milliseconds: its guest starts meanwhile. */
  replaceAfterMs: number;
  /** Pauses before work in the background that failed is tried again, milliseconds; the last one from then on. */
  retryMs: readonly number[];
  log: Pick<Logger, 'warn' | 'error'>;
}

export class SlotPool {
  readonly #options: SlotPoolOptions;
  /** How many numbers were offered for the first time; the n-th is `first + n`, around the end. */
  #offered = 0;
  /** Numbers that the first round leaves out, since they have been used already. */
  readonly #touched = new Set<number>();
  readonly #resting: { number: number; until: number }[] = [];
  readonly #ready: number[] = [];
  readonly #used = new Set<number>();
  readonly #removing = new Map<number, Promise<void>>();
  /** Slots that are being made for a caller who waits. */
  readonly #making = new Set<Promise<void>>();
  readonly #remains = new Set<number>();
  /** Those that are being made, or taken back after that failed. */
  readonly #beingMade = new Set<number>();
  /** Work in the background, one piece at a time. */
  #refilling: Promise<void> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #replacing: NodeJS.Timeout | undefined;
  /** How often it was tried again since it last went well. */
  #retries = 0;
  #state: 'new' | 'started' | 'stopped' = 'new';

  constructor(options: SlotPoolOptions) {
    this.#options = options;
  }

  /** `swept`: numbers that an earlier life left behind. They have been removed, and rest now. */
  start(inUse: readonly number[], swept: readonly number[]): void {
    for (const number of inUse) {
      this.#touched.add(number);
      this.#used.add(number);
    }
    for (const number of swept) if (this.#mayRest(number)) this.#rest(number);
    this.#state = 'started';
    this.#refill();
  }

  /** @throws PerchError capacity_exhausted, or why the slot could not be made */
  async acquire(): Promise<number> {
    for (;;) {
      this.#checkRunning();
      const ready = this.#ready.shift();
      if (ready !== undefined) {
        this.#used.add(ready);
        this.#replace();
        return ready;
      }
      const number = this.#take();
      if (number !== undefined) {
        const making = this.#makeNow(number);
        this.#making.add(making);
        await making.finally(() => this.#making.delete(making));
        this.#refill();
        return number;
      }
      if (this.#refilling === undefined) throw this.#exhausted();
      await this.#refilling;
    }
  }

  /**
   * Before `start` any number may be given back, since nobody knows yet which are used; afterwards one that
   * is not used is left alone. A slot whose removal fails stays used, and may be given back again.
   */
  release(number: number): Promise<void> {
    const running = this.#removing.get(number);
    if (running) return running;
    if (this.#state !== 'new' && !this.#used.has(number)) return Promise.resolve();
    const removal = this.#remove(number).finally(() => this.#removing.delete(number));
    this.#removing.set(number, removal);
    return removal;
  }

  /** Removes a slot that nobody has, whoever made it. A slot that is taken meanwhile is made once more. */
  discard(number: number): Promise<void> {
    return this.#used.has(number) ? this.release(number) : this.#options.maker.remove(number);
  }

  /** Numbers that this pool has in its hands, of which something may exist. */
  held(): number[] {
    return [...this.#ready, ...this.#beingMade, ...this.#removing.keys(), ...this.#remains];
  }

  counts(): { total: number; used: number; ready: number } {
    return { total: this.#options.total, used: this.#used.size, ready: this.#ready.length };
  }

  /** Resolves when nothing is being made or removed any more. */
  async stop(): Promise<void> {
    this.#state = 'stopped';
    clearTimeout(this.#retry);
    clearTimeout(this.#replacing);
    await this.#refilling;
    await Promise.allSettled([...this.#making, ...this.#removing.values()]);
  }

  async #remove(number: number): Promise<void> {
    await this.#options.maker.remove(number);
    this.#used.delete(number);
    if (this.#state !== 'new' || this.#mayRest(number)) this.#rest(number);
    this.#replace();
  }

  /** A sweep may find numbers of an earlier, wider range, and ones that were given back before the start. */
  #mayRest(number: number): boolean {
    return number <= this.#options.total && !this.#touched.has(number);
  }

  #rest(number: number): void {
    this.#touched.add(number);
    this.#resting.push({ number, until: this.#options.now() + this.#options.quarantineMs });
  }

  /** A number that nobody has, never used ones first. */
  #take(): number | undefined {
    const { total, first } = this.#options;
    while (this.#offered < total) {
      const number = ((first - 1 + this.#offered) % total) + 1;
      this.#offered += 1;
      if (this.#touched.has(number)) continue;
      this.#touched.add(number);
      return number;
    }
    const oldest = this.#resting[0];
    if (oldest === undefined || oldest.until > this.#options.now()) return undefined;
    return this.#resting.shift()?.number;
  }

  async #makeNow(number: number): Promise<void> {
    this.#used.add(number);
    this.#beingMade.add(number);
    try {
      await this.#options.maker.make(number);
      this.#checkRunning();
    } catch (error) {
      await this.#undo(number);
      throw error;
    } finally {
      this.#beingMade.delete(number);
    }
  }

  /** After a slot could not be made: the number rests once its remains are removed. */
  async #undo(number: number): Promise<void> {
    try {
      await this.#options.maker.remove(number);
      this.#remains.delete(number);
      this.#rest(number);
    } catch (error) {
      this.#options.log.error({ err: error, slot: number }, 'the remains of a slot cannot be removed');
      this.#remains.add(number);
      this.#tryLater();
    } finally {
      this.#used.delete(number);
    }
  }

  /** The making of a slot would share the processors with a guest that starts. */
  #replace(): void {
    if (this.#ready.length === 0) {
      this.#refill();
    } else {
      this.#replacing ??= setTimeout(() => {
        this.#replacing = undefined;
        this.#refill();
      }, this.#options.replaceAfterMs).unref();
    }
  }

  /** One slot after the other until the pool is full. */
  #refill(): void {
    if (this.#lacking()) this.#inBackground(() => this.#makeAhead());
  }

  #inBackground(work: () => Promise<void>): void {
    if (this.#refilling !== undefined || this.#state !== 'started') return;
    this.#refilling = work().finally(() => {
      this.#refilling = undefined;
    });
  }

  async #makeAhead(): Promise<void> {
    const number = this.#take();
    if (number === undefined) return this.#tryLater();
    this.#beingMade.add(number);
    try {
      await this.#options.maker.make(number);
      this.#ready.push(number);
    } catch (error) {
      this.#options.log.warn({ err: error, slot: number }, 'a slot cannot be made ahead');
      await this.#undo(number);
      return this.#tryLater();
    } finally {
      this.#beingMade.delete(number);
    }
    if (this.#remains.size === 0) this.#wentWell();
    // A waiting acquire goes on first, then the next is made.
    setImmediate(() => this.#refill());
  }

  /** A step that failed once, as when a tool was killed, may work the next time without anybody asking. */
  #tryLater(): void {
    if (this.#state !== 'started' || this.#retry) return;
    const { retryMs } = this.#options;
    const waitMs = retryMs[Math.min(this.#retries, retryMs.length - 1)];
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      if (this.#refilling) return this.#tryLater();
      this.#retries += 1;
      this.#inBackground(async () => {
        for (const number of this.#remains) await this.#undo(number);
        if (this.#lacking()) await this.#makeAhead();
        else if (this.#remains.size === 0) this.#wentWell();
      });
    }, waitMs).unref();
  }

  #wentWell(): void {
    this.#retries = 0;
    clearTimeout(this.#retry);
    this.#retry = undefined;
  }

  #lacking(): boolean {
    return this.#ready.length < this.#options.size;
  }

  #checkRunning(): void {
    if (this.#state === 'stopped') {
      throw new PerchError('shutting_down', 'The network layer has been stopped.', {});
    }
    if (this.#state === 'new') throw new Error('the network layer has not been started');
  }

  #exhausted(): PerchError {
    const { total } = this.#options;
    const details = { resource: 'slots', requested: 1, available: 0 } as const;
    return new PerchError('capacity_exhausted', `All ${total} network slots are used or resting.`, details);
  }
}
