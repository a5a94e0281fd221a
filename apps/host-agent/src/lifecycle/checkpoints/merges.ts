/**
 * Merges the last checkpoints of sandboxes that have been paused for a while, one at a time on a host. The merged files lie
 * beside the checkpoint and take its place in one step, which the driver of the sandbox does among its others: nobody
 * waits for a merge, and one whose sandbox goes on meanwhile is given up. But for a disk that may get no more layers,
 * and a memory in too many files: then whoever goes on from the checkpoint waits, see `now`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type HostSandbox, isPerchError } from '@perch/protocol';
import type { Logger } from 'pino';
import { UserStillRuns } from '../../disk/index.ts';
import { ExchangeNotDurable } from '../../snapshot/index.ts';
import { milliseconds, type SandboxRecord } from '../journal/index.ts';
import type { Merged } from './merge.ts';

/** The replacement of a checkpoint. It goes, or else what it has replaced, at the end of its scope. */
export interface PreparedMerge extends AsyncDisposable {
  /** For the log. */
  what: 'merged' | 'converted';
  merged: Merged;
  /** To be called while the sandbox is paused there. */
  replace: () => Promise<void>;
}

/** Undefined when there is nothing to merge. @throws PerchError capacity_exhausted; what `signal` was aborted with */
export type MergeCheckpoint = (
  record: SandboxRecord,
  checkpoint: number,
  signal: AbortSignal,
) => Promise<PreparedMerge | undefined>;

export interface MergeReport extends Merged {
  ms: number;
}

/** A sandbox that may be paused. */
export interface Mergeable {
  record: SandboxRecord | undefined;
  /** Does `work` if it is paused at this checkpoint of this life when its turn comes. @returns whether it was */
  whilePaused: (generation: number, checkpoint: number, work: () => Promise<void>) => Promise<boolean>;
}

export interface MergesOptions {
  merge: MergeCheckpoint;
  find: (id: string) => Mergeable | undefined;
  /** How long a sandbox has been paused when its checkpoint is merged: many are resumed at once. */
  quietMs: number;
  log: Logger;
}

/** A merge that nobody waits for. */
interface Current {
  id: string;
  checkpoint: number;
  made: Promise<PreparedMerge | undefined>;
  giveUp: AbortController;
  start: number;
}

export class Merges {
  readonly #options: MergesOptions;
  /** Sandboxes by id, and when their turn may come; the first was paused first. */
  readonly #waiting = new Map<string, number>();
  readonly #stopped = new AbortController();
  #current: Current | undefined;
  #loop: Promise<void> | undefined;
  #listener: (report: MergeReport) => void = () => {};

  constructor(options: MergesOptions) {
    this.#options = options;
  }

  /** To be told of each sandbox at the start, and of each change. */
  note({ id, status }: Pick<HostSandbox, 'id' | 'status'>): void {
    this.#waiting.delete(id);
    if (status === 'paused') {
      this.#waiting.set(id, performance.now() + this.#options.quietMs);
      this.#loop ??= this.#work();
    } else if (this.#current?.id === id) {
      this.#current.giveUp.abort(new Error(`The sandbox is ${status}.`));
    }
  }

  /**
   * Merges a checkpoint in the turn of its driver, and goes on with the merge of it that is under way.
   * @throws PerchError capacity_exhausted; what the merge throws; what `signal` was aborted with
   */
  async now(record: SandboxRecord, checkpoint: number, signal: AbortSignal): Promise<void> {
    this.#waiting.delete(record.id);
    const either = AbortSignal.any([signal, this.#stopped.signal]);
    either.throwIfAborted();
    if (this.#current?.id === record.id && this.#current.checkpoint === checkpoint) {
      await this.#takeOver(this.#current, either);
      return;
    }
    const start = performance.now();
    await using made = await this.#options.merge(record, checkpoint, either);
    await made?.replace();
    if (made) this.#report(record.id, checkpoint, made, start);
  }

  async #takeOver(current: Current, signal: AbortSignal): Promise<void> {
    const { id, checkpoint, giveUp, start } = current;
    const aborted = () => giveUp.abort(signal.reason);
    signal.addEventListener('abort', aborted, { once: true });
    try {
      const made = await current.made;
      giveUp.signal.throwIfAborted();
      await made?.replace();
      if (made) this.#report(id, checkpoint, made, start);
    } finally {
      signal.removeEventListener('abort', aborted);
      // It waits for its turn, which is of no use any more.
      giveUp.abort(new Error('It was merged for one who waited.'));
    }
  }

  #report(id: string, checkpoint: number, { what, merged }: PreparedMerge, start: number): void {
    const report = { ...merged, ms: milliseconds(start) };
    this.#options.log.info({ sandbox: id, checkpoint, ...report }, `a checkpoint was ${what}`);
    this.#listener(report);
  }

  /** Has `listener` told of each merge, in place of the one before. */
  watch(listener: (report: MergeReport) => void): void {
    this.#listener = listener;
  }

  /** Gives up the one under way. To be called before the drivers stop. */
  async stop(): Promise<void> {
    const reason = new Error('The host agent stops.');
    this.#stopped.abort(reason);
    this.#current?.giveUp.abort(reason);
    await this.#loop;
  }

  async #work(): Promise<void> {
    const { signal } = this.#stopped;
    for (;;) {
      const [next] = this.#waiting;
      if (!next || signal.aborted) {
        this.#loop = undefined;
        return;
      }
      const [id, due] = next;
      await sleep(Math.max(0, due - performance.now()), undefined, { signal }).catch(() => {});
      if (signal.aborted || this.#waiting.get(id) !== due) continue;
      this.#waiting.delete(id);
      await this.#merge(id);
    }
  }

  async #merge(id: string): Promise<void> {
    const { find, merge, log } = this.#options;
    const driver = find(id);
    const record = driver?.record;
    if (!driver || record?.status !== 'paused' || record.last_checkpoint === null) return;
    const { generation, last_checkpoint: checkpoint } = record;
    const giveUp = new AbortController();
    const start = performance.now();
    const making = merge(record, checkpoint, giveUp.signal);
    this.#current = { id, checkpoint, made: making, giveUp, start };
    try {
      await using made = await making;
      const inTurn: InTurn = (work) => driver.whilePaused(generation, checkpoint, work);
      if (!(made && (await unlessGivenUp(made.replace, inTurn, giveUp.signal)))) return;
      this.#report(id, checkpoint, made, start);
    } catch (err) {
      if (isPerchError(err, 'capacity_exhausted'))
        log.warn({ err, sandbox: id, checkpoint }, 'no room on the disk to merge or convert a checkpoint');
      else if (err instanceof ExchangeNotDurable)
        log.error(
          { err, sandbox: id, checkpoint },
          'a checkpoint was merged or converted, and may not outlive a power cut',
        );
      else if (!giveUp.signal.aborted || err instanceof UserStillRuns)
        log.error(
          { err, sandbox: id, checkpoint },
          'a checkpoint cannot be merged or converted, and stays as it was',
        );
    } finally {
      this.#current = undefined;
    }
  }
}

/** Does `work` when its turn comes. @returns whether it came */
type InTurn = (work: () => Promise<void>) => Promise<boolean>;

/** Waits for no turn that is of no use any more. @throws what `signal` was aborted with before `work` began */
function unlessGivenUp(work: () => Promise<void>, inTurn: InTurn, signal: AbortSignal): Promise<boolean> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  let begun = false;
  const giveUp = () => {
    if (!begun) reject(signal.reason);
  };
  signal.addEventListener('abort', giveUp, { once: true });
  inTurn(async () => {
    signal.throwIfAborted();
    begun = true;
    await work();
  }).then(resolve, reject);
  return promise;
}
