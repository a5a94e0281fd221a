/** A sandbox in the journal, and the changes of it that every transition shares. */
import { setTimeout as sleep } from 'node:timers/promises';
import { PerchError } from '@perch/protocol';
import type { Logger } from 'pino';
import { type DiskBackend, isOfOtherKind } from '../../disk/index.ts';
import { failpoint } from '../../failpoints/index.ts';
import { isInTooManyFiles, SnapshotDamaged } from '../../snapshot/index.ts';
import type { SavedState, StateStore } from '../checkpoints/index.ts';
import type { HostState, Journal, SandboxRecord, TransitionDetail } from '../journal/index.ts';
import type { Resources } from './resources.ts';

export interface SandboxStateDeps {
  journal: Journal;
  saved: StateStore;
  disks: Pick<DiskBackend, 'mergeNeed' | 'capabilities'>;
  log: Logger;
  /** Told after every transition; `destroyed` is the last. */
  changed: (record: SandboxRecord) => void;
  /** Merges or converts a checkpoint in the turn of its driver, as Merges.now. */
  mergeNow: (record: SandboxRecord, checkpoint: number, signal: AbortSignal) => Promise<void>;
  /** Pauses between the tries of what has to be done, milliseconds; the last repeats. */
  retryMs: readonly number[];
}

/** So many failures of what is insisted on are likely to pass by themselves. */
const quietAttempts = 2;
/** Insisted on: those that give a machine back. */
const teardowns: ReadonlySet<string> = new Set(['pause', 'destroy', 'fail', 'undo']);

export class SandboxState {
  readonly id: string;
  readonly resources: Resources;
  readonly #deps: SandboxStateDeps;
  readonly #released = new AbortController();
  readonly #overtaken: AbortSignal;
  readonly #delayed: (error: PerchError) => void;

  /**
   * @param destroying aborted by a destroy
   * @param delayed told each time that what is insisted on takes longer than anybody should wait without a word
   */
  constructor(
    id: string,
    resources: Resources,
    deps: SandboxStateDeps,
    destroying: AbortSignal,
    delayed: (error: PerchError) => void,
  ) {
    this.id = id;
    this.resources = resources;
    this.#deps = deps;
    this.#delayed = delayed;
    this.#overtaken = AbortSignal.any([this.released, destroying]);
  }

  /** Aborted when this process lets go of the sandbox: what is left over belongs to somebody else from then on. */
  get released(): AbortSignal {
    return this.#released.signal;
  }

  get stopped(): boolean {
    return this.released.aborted;
  }

  letGo(): void {
    this.#released.abort();
  }

  get record(): SandboxRecord | undefined {
    return this.#deps.journal.get(this.id);
  }

  /** @throws PerchError sandbox_not_found */
  expect(): SandboxRecord {
    const record = this.record;
    if (!record)
      throw new PerchError('sandbox_not_found', `There is no sandbox ${this.id}.`, { id: this.id });
    return record;
  }

  transition(to: HostState, detail: TransitionDetail = {}): void {
    const before = this.expect();
    this.#deps.journal.transition(this.id, to, detail);
    const after = this.record ?? { ...before, status: to };
    // An identity opens the guest agent.
    const { identity: _, ...told } = detail;
    const { generation } = after;
    this.#deps.log.info({ sandbox: this.id, generation, from: before.status, to, ...told }, 'transition');
    this.#deps.changed(after);
  }

  /** It is `failed`, and holds what it held. */
  markFailed(reason: string): void {
    this.transition('failed', { reason });
    failpoint('fail.journaled');
  }

  /** It is `failed`, and holds nothing. @throws as `insist` */
  fail(reason: string): Promise<void> {
    return this.insist('fail', async () => {
      if (this.expect().status !== 'failed') this.markFailed(reason);
      await this.resources.remove(this.expect());
    });
  }

  /**
   * The state to go on from at a checkpoint. A disk that may get no more layers and a memory in too many files are merged
   * first, however long that takes: so all that go on from them, and what they make in turn, keep to the bounds.
   * @param checkpoint default: the last
   * @param signal aborted by a destroy
   * @param memory as StateStore.open
   * @throws PerchError checkpoint_not_found, snapshot_damaged, capacity_exhausted, resume_failed
   */
  async saved(
    record: SandboxRecord,
    checkpoint: number | null | undefined,
    signal: AbortSignal,
    memory?: boolean,
  ): Promise<SavedState> {
    const at = checkpoint ?? record.last_checkpoint;
    if (at === null) throw new Error(`Sandbox ${this.id} has no snapshot.`);
    const { saved, disks, mergeNow } = this.#deps;
    const state = await saved.open(record.id, at, memory);
    const isOther = isOfOtherKind(state.disk, disks);
    const isLong = state.vm !== undefined && isInTooManyFiles(state.vm.image.header);
    // Nothing goes on from such a state before its files are merged, or are those of this kind of disk.
    const mustWait =
      isOther || isLong || (await disks.mergeNeed(state.disk, record.disk_mb * 2 ** 20)) === 'now';
    if (!mustWait) return state;
    try {
      await mergeNow(record, at, signal);
    } catch (cause) {
      if (signal.aborted) throw this.goingAway();
      if (cause instanceof PerchError) throw cause;
      if (cause instanceof SnapshotDamaged) throw cause.toPerchError(this.id);
      const { id } = this;
      const what = isOther ? 'The layers of its disk have to be converted' : 'Its files have to be merged';
      const reason = `${what}, and cannot be. ${sentence(cause)}`;
      const message = `Nothing can go on from the state of sandbox ${id}. ${reason}`;
      throw new PerchError('resume_failed', message, { id, reason }, { cause });
    }
    return saved.open(record.id, at, memory);
  }

  /** @param lacks whether the guest stands still since the host's disk is full, or goes on */
  tellOfRoom(lacks: boolean): void {
    const about = { sandbox: this.id, generation: this.record?.generation };
    if (lacks)
      this.#deps.log.warn(about, 'a guest stands still: the disk of the host has no room for its writes');
    else this.#deps.log.info(about, 'a guest goes on: the disk of the host has room again');
  }

  /**
   * Does `work`, which must be safe to repeat, until it is done. A destroy removes all there is, so nothing else is
   * tried again then.
   * @param cut ends the tries
   * @throws PerchError sandbox_not_running when a destroy came; when the process lets go, what `work` threw last
   */
  async insist(what: string, work: () => void | Promise<void>, cut = this.#overtaken): Promise<void> {
    const { retryMs, log } = this.#deps;
    for (let attempt = 0; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        log.error({ sandbox: this.id, what, err: error, attempt }, 'this failed, and will be tried again');
        if (attempt >= quietAttempts && teardowns.has(what)) this.#delayed(this.#cleanupDelayed(error));
        await sleep(retryMs[Math.min(attempt, retryMs.length - 1)], undefined, { signal: cut }).catch(
          () => {},
        );
        if (this.stopped) throw error;
        if (cut.aborted) throw this.goingAway();
      }
    }
  }

  /** Does what may be left undone: that it failed is in the log. */
  async attempt(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#deps.log.error({ sandbox: this.id, what, err: error }, 'this failed');
    }
  }

  #cleanupDelayed(cause: unknown): PerchError {
    const { id } = this;
    // Each thing that could not be removed has its own.
    const reason = (cause instanceof AggregateError ? cause.errors : [cause]).map(sentence).join(' ');
    const { status, reason: before } = this.expect();
    const failed = status === 'failed' && before ? `Sandbox ${id} failed. ${before} ` : '';
    const message = `${failed}What sandbox ${id} held cannot be given back yet. ${reason}`;
    return new PerchError('cleanup_delayed', message, { id, reason }, { cause });
  }

  /** The error for a caller whom a destroy overtook. */
  goingAway(): PerchError {
    const details = { id: this.id, status: 'destroying' };
    return new PerchError('sandbox_not_running', `Sandbox ${this.id} is being destroyed.`, details);
  }

  notRunning(status: HostState): PerchError {
    const { id } = this;
    return new PerchError('sandbox_not_running', `Sandbox ${id} is ${status}, not running.`, { id, status });
  }
}

export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
