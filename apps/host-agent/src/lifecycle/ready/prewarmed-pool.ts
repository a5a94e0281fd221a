/**
 * Guests that stand still until a create takes one over: restored, warmed up where they may be, and stopped. They use no
 * CPU, and their memory is there for whoever needs it: see `giveWay`. Some are kept whatever happens; others come when
 * more creates came at once than found one, and go when no more come.
 */
import type { Logger } from 'pino';
import type { SandboxDriver } from '../sandbox/index.ts';
import { type GuestRequest, Kinds, nameOf, wantedOf } from './kinds.ts';
import { type Comparison, compare, type Place, placesFor } from './plan.ts';

export interface ReadyGuest {
  driver: SandboxDriver;
  /** The content that it was made from: the template of its request may have another by now. */
  content: string;
}

/** Guests that are kept whatever is asked for. */
export interface Kept {
  request: GuestRequest;
  count: number;
  /** Whether there are no more of them either. */
  isFixed: boolean;
}

export interface PrewarmedPoolOptions {
  /** The guests that are kept, each request once. It may be asked at any time. */
  kept: () => readonly Kept[];
  /** The most that stand ready, of all kinds. */
  most: number;
  /** Those that there are places for beside what is in use. It may be asked at any time. */
  room: () => number;
  /**
   * Makes one. Undefined when there is no room. When `signal` aborts it gives up, and leaves nothing.
   * @throws also when there is no such guest, see `isImpossible`
   */
  make: (request: GuestRequest, signal: AbortSignal) => Promise<ReadyGuest | undefined>;
  /** Whether an error of `make` says that there can be none, however often it is tried. */
  isImpossible: (error: unknown) => boolean;
  /** Whether the machine has the time for more than are kept. */
  mayGrow: () => boolean;
  /** Milliseconds without a create before the next is made, so that none of them has to share the CPU with it. */
  quietMs: number;
  /** Milliseconds until it is tried again when there was no room, or it could not be made. */
  againMs: number;
  /** Milliseconds that never go back. */
  now: () => number;
  log: Logger;
}

interface Standing extends ReadyGuest {
  kind: string;
  template: string;
}

interface Making {
  template: string;
  done: Promise<void>;
  giveUp: AbortController;
}

/** How it stands with one kind of guests. */
export interface ReadyState extends GuestRequest {
  /** Guests that wait for a create. */
  ready: number;
  /** Guests that are to. */
  wanted: number;
  hits: number;
  misses: number;
}

export class PrewarmedPool {
  readonly #options: PrewarmedPoolOptions;
  readonly #kinds = new Kinds();
  #standing: Standing[] = [];
  /** Until when a kind is not tried again. */
  readonly #putOff = new Map<string, number>();
  #keepsOffUntil = Number.NEGATIVE_INFINITY;
  /** Callers that need the CPU. */
  #busy = 0;
  #timer: NodeJS.Timeout | undefined;
  #making: Making | undefined;
  #stopped = false;
  #started = false;
  readonly counts = { hits: 0, misses: 0 };

  constructor(options: PrewarmedPoolOptions) {
    this.#options = options;
  }

  start(): void {
    this.#started = true;
    this.look();
  }

  /** Looks soon whether all stand that are to. */
  look(): void {
    this.#later(0);
  }

  /** A create of such a guest has come. */
  asked(request: GuestRequest): void {
    if (this.#options.most > 0) this.#kinds.asked(request, this.#options.now());
  }

  /** The one that stands longest, which is the caller's from then on; another takes its place. */
  take(request: GuestRequest, content: string): SandboxDriver | undefined {
    if (this.#options.most === 0) return undefined;
    const name = nameOf(request);
    const at = this.#standing.findIndex((one) => one.kind === name && one.content === content);
    const outcome = at < 0 ? 'misses' : 'hits';
    this.counts[outcome]++;
    // Others may have been asked for since, and this one forgotten.
    const kind = this.#kinds.find(request);
    if (kind) kind[outcome]++;
    return at < 0 ? undefined : this.#standing.splice(at, 1)[0]?.driver;
  }

  /** Makes none until the caller is done, and some time longer: somebody else needs the CPU. */
  busy(): Disposable {
    this.#busy++;
    return {
      [Symbol.dispose]: () => {
        this.#busy--;
        if (this.#busy === 0) this.#later(this.#options.quietMs);
      },
    };
  }

  /** One ended by itself. */
  lost(id: string): void {
    const at = this.#standing.findIndex(({ driver }) => driver.id === id);
    if (at < 0) return;
    const [lost] = this.#standing.splice(at, 1);
    if (!lost) return;
    this.#putOff.set(lost.kind, this.#options.now() + this.#options.againMs);
    void this.#destroy([lost]);
    this.#later(this.#options.againMs);
  }

  /**
   * Gives memory back, and keeps off for a while: the guest that is being made, else those that matter least.
   * @param memoryMb that are needed; without a number all is given back
   * @returns whether anything was
   */
  async giveWay(memoryMb = Number.POSITIVE_INFINITY): Promise<boolean> {
    this.#keepsOffUntil = this.#options.now() + this.#options.againMs;
    const making = this.#making;
    if (making) {
      making.giveUp.abort(new Error('Its memory is needed.'));
      await making.done;
      if (Number.isFinite(memoryMb)) return true;
    }
    const going: Standing[] = [];
    let freedMb = 0;
    for (const index of this.#compare().toGo) {
      const one = this.#standing[index];
      if (freedMb >= memoryMb || !one) break;
      going.push(one);
      freedMb += one.driver.record?.memory_mb ?? 0;
    }
    await this.#remove(going);
    return going.length > 0 || making !== undefined;
  }

  /** The template is of other content, or gone: guests of it go. Resolves once they have. */
  async changed(template: string): Promise<void> {
    if (this.#making?.template === template) {
      this.#making.giveUp.abort(new Error('Its template has changed.'));
      await this.#making.done;
    }
    await this.#remove(this.#standing.filter((one) => one.template === template));
    this.look();
  }

  /** Each kind that stands ready, is to, or was asked for lately. */
  states(): ReadyState[] {
    const places = this.#places();
    return this.#kinds.all().map(({ request, hits, misses }) => {
      const isOf = ({ kind }: { kind: string }) => kind === nameOf(request);
      const ready = this.#standing.filter(isOf).length;
      return { ...request, ready, wanted: places.filter(isOf).length, hits, misses };
    });
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
    if (this.#stopped || !this.#started) return;
    this.#timer = setTimeout(() => this.#tick(), ms).unref();
  }

  #places(most = Math.min(this.#options.most, this.#options.room())): Place[] {
    const { kept, now } = this.#options;
    const all = new Map(kept().map((one) => [nameOf(one.request), one]));
    for (const { request } of all.values()) this.#kinds.of(request);
    const wishes = this.#kinds.all().map((kind) => {
      const name = nameOf(kind.request);
      const { count = 0, isFixed = false } = all.get(name) ?? {};
      return { kind: name, kept: count, wanted: isFixed ? 0 : wantedOf(kind, now()) };
    });
    return placesFor(wishes, most);
  }

  #compare(): Comparison {
    return compare(
      this.#places(),
      this.#standing.map(({ kind }) => kind),
    );
  }

  /** One step: guests too many go, and one that lacks is begun. */
  #tick(): void {
    // Whoever is busy looks again when it is done, as the one that is being made does.
    if (this.#stopped || this.#making || this.#busy > 0) return;
    const { now, againMs, mayGrow } = this.#options;
    const at = now();
    if (at < this.#keepsOffUntil) {
      this.#later(this.#keepsOffUntil - at);
      return;
    }
    for (const [kind, until] of this.#putOff) if (until <= at) this.#putOff.delete(kind);
    const { missing, surplus } = this.#compare();
    void this.#remove(this.#standing.filter((_, index) => surplus.includes(index)));
    const due = missing.filter(({ kind }) => !this.#putOff.has(kind));
    const grows = due.some(({ isKept }) => !isKept) && mayGrow();
    const next = due.find(({ isKept }) => isKept || grows);
    const kind = this.#kinds.all().find(({ request }) => nameOf(request) === next?.kind);
    if (kind) this.#begin(kind.request);
    else if (missing.length > 0 || this.#lacksRoom() || this.#isAnyWanted(at)) this.#later(againMs);
  }

  /** Whether more would stand ready if there was room, of which nobody tells. */
  #lacksRoom(): boolean {
    return this.#places(this.#options.most).length > this.#places().length;
  }

  #isAnyWanted(at: number): boolean {
    return this.#kinds.all().some((kind) => wantedOf(kind, at) > 0);
  }

  #begin(request: GuestRequest): void {
    const giveUp = new AbortController();
    const done = this.#make(request, giveUp.signal).finally(() => {
      this.#making = undefined;
    });
    this.#making = { template: request.template, done, giveUp };
  }

  async #make(request: GuestRequest, signal: AbortSignal): Promise<void> {
    const { make, isImpossible, quietMs, againMs, now, log } = this.#options;
    const kind = nameOf(request);
    const { template } = request;
    try {
      const made = await make(request, signal);
      // An abort may find it made already.
      if (made && signal.aborted) await made.driver.destroy();
      else if (made) this.#standing.push({ ...made, kind, template });
      else this.#putOff.set(kind, now() + againMs);
    } catch (err) {
      if (!signal.aborted) {
        this.#putOff.set(kind, now() + againMs);
        if (isImpossible(err)) this.#kinds.forget(request);
        else log.warn({ err, template }, 'no guest could be made ready');
      }
    }
    this.#later(quietMs);
  }

  async #remove(going: readonly Standing[]): Promise<void> {
    this.#standing = this.#standing.filter((one) => !going.includes(one));
    await this.#destroy(going);
  }

  async #destroy(guests: readonly Standing[]): Promise<void> {
    await Promise.allSettled(guests.map(({ driver }) => driver.destroy()));
  }
}
