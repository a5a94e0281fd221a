/**
 * Requests to one sandbox that are not yet done, in the order of their turn. The queue decides nothing about
 * time or processes, so that its rules can be tested alone:
 * - intents come out in the order they went in, but a destroy overtakes all others;
 * - a second destroy joins the first until that is done: both callers get the one outcome;
 * - once a destroy is in, everything else that waits is refused, and so is what comes until it is done;
 * - a finding from an earlier generation is dropped.
 */

/** A copy of a sandbox that runs on, or stays paused. */
export interface CopyRequest {
  /** The name of its state meanwhile. A snapshot is a checkpoint of its history too. */
  as: 'snapshotting' | 'forking';
  /** Checkpoint of its history; default: as it is now. */
  checkpoint?: number | undefined;
  /** Whether the memory is wanted; default: true. Else a guest that runs writes its disk out first. */
  memory?: boolean;
  /**
   * Takes over what it needs of the checkpoint, which may be gone afterwards.
   * @param timings milliseconds of each stage so far
   */
  take: (checkpoint: number, timings: Readonly<Record<string, number>>) => Promise<void>;
}

/** Something that is done with a sandbox while it stays paused at one checkpoint. */
export interface PausedWork {
  checkpoint: number;
  work: () => Promise<void>;
}

/** A new life of a paused sandbox. */
export interface ResumeRequest {
  generation: number;
  accessToken: string;
  /** Of its history; default: the last. */
  checkpoint?: number | undefined;
  /** Whether it goes on with its memory, if there is some; default: true. */
  memory?: boolean | undefined;
}

export type Intent =
  | { kind: 'recover' }
  | { kind: 'create'; generation: number }
  | { kind: 'pause'; generation: number; memory: boolean }
  | ({ kind: 'resume' } & ResumeRequest)
  | { kind: 'copy'; generation: number; request: CopyRequest }
  | { kind: 'paused'; generation: number; request: PausedWork }
  | { kind: 'exited'; generation: number; reason: string }
  | { kind: 'destroy' };

export interface Queued<T> {
  intent: Intent;
  waiters: T[];
}

export interface Put<T> {
  outcome: 'queued' | 'joined' | 'refused';
  /** Waiters of intents that this one pushed out. */
  refused: T[];
}

export class IntentQueue<T> {
  #items: Queued<T>[] = [];
  #destroy: Queued<T> | undefined;

  /** True while a destroy waits or is under way. */
  get closing(): boolean {
    return this.#destroy !== undefined;
  }

  get length(): number {
    return this.#items.length;
  }

  put(intent: Intent, waiter?: T): Put<T> {
    const waiters = waiter === undefined ? [] : [waiter];
    if (intent.kind === 'destroy') {
      if (this.#destroy) {
        this.#destroy.waiters.push(...waiters);
        return { outcome: 'joined', refused: [] };
      }
      const refused = this.#items.flatMap((item) => item.waiters);
      this.#destroy = { intent, waiters };
      this.#items = [this.#destroy];
      return { outcome: 'queued', refused };
    }
    if (this.#destroy) return { outcome: 'refused', refused: [] };
    this.#items.push({ intent, waiters });
    return { outcome: 'queued', refused: [] };
  }

  /** The next intent that concerns this generation. */
  take(generation: number): Queued<T> | undefined {
    for (;;) {
      const item = this.#items.shift();
      if (item?.intent.kind === 'exited' && item.intent.generation !== generation) continue;
      return item;
    }
  }

  /** To be called with what was taken, before its waiters are answered: nobody joins it any more. */
  done(item: Queued<T>): void {
    if (item === this.#destroy) this.#destroy = undefined;
  }
}
