/** A guest is stopped and its state written: a pause, a copy that runs on, and what takes either of them back. */
import { isDiskFull } from '@perch/node-kit';
import { PerchError } from '@perch/protocol';
import { DiskGone } from '../../disk/index.ts';
import { failpoint } from '../../failpoints/index.ts';
import type { Capture, StateStore } from '../checkpoints/index.ts';
import { captured, milliseconds, type SandboxRecord } from '../journal/index.ts';
import type { CopyRequest } from './intent-queue.ts';
import { type SandboxState, sentence } from './sandbox-state.ts';

/** A pause with everything. */
const pausing = { kind: 'pause', durable: true, memory: true } as const;

export class CheckpointWriter {
  readonly #state: SandboxState;
  readonly #saved: StateStore;
  readonly #signal: AbortSignal;
  readonly #watch: (generation: number) => void;

  /**
   * @param signal aborted by a destroy
   * @param watch is told of each guest that goes on in this process
   */
  constructor(
    state: SandboxState,
    saved: StateStore,
    signal: AbortSignal,
    watch: (generation: number) => void,
  ) {
    this.#state = state;
    this.#saved = saved;
    this.#signal = signal;
    this.#watch = watch;
  }

  /** @param memory whether it is kept */
  async pause(record: SandboxRecord, generation: number, memory: boolean): Promise<void> {
    if (record.status === 'paused' && record.generation === generation) return;
    if (record.status !== 'running' || record.generation !== generation)
      throw this.#state.notRunning(record.status);
    const unsavedBytes = memory ? await this.#state.resources.running(record).unsavedBytesAtMost() : 0;
    await this.#saved.assertRoom(record, unsavedBytes);
    this.#state.transition('pausing', { captures: record.captures + 1 });
    captured(this.#state.expect(), 'journaled');
    let timings_ms: Record<string, number>;
    try {
      const begun = this.#state.expect();
      timings_ms = await (memory ? this.#capture(begun, pausing) : this.#captureDisk(begun));
    } catch (cause) {
      if (this.#signal.aborted) throw this.#state.goingAway();
      const error = await this.#undoCapture(record, cause, 'pause_failed', 'was not paused');
      if (!memory && error.code !== 'sandbox_failed') await this.#letGoOfDisk();
      throw error;
    }
    await this.#settlePause(this.#state.expect(), timings_ms);
  }

  async copy(record: SandboxRecord, generation: number, request: CopyRequest): Promise<void> {
    const { as, checkpoint, memory, take } = request;
    if (record.generation !== generation || (record.status !== 'running' && record.status !== 'paused')) {
      throw this.#state.notRunning(record.status);
    }
    if (record.status === 'paused' || checkpoint !== undefined) {
      const at = checkpoint ?? record.last_checkpoint;
      // Whatever cannot be gone on from is said before anything is made of it.
      await this.#state.saved(record, at, this.#signal, memory);
      await this.#assertCopyRoom(record, memory);
      if (at !== null) await take(at, {});
      return;
    }
    await this.#assertCopyRoom(record, memory);
    this.#state.transition(as, { captures: record.captures + 1 });
    const begun = this.#state.expect();
    captured(begun, 'journaled');
    const isCheckpoint = as === 'snapshotting';
    let timings_ms: Record<string, number>;
    try {
      // The history has the memory all the same: what the guest is saved as next differs from that.
      if (memory === false) await this.#state.resources.writeOut(begun, this.#signal);
      timings_ms = await this.#capture(begun, { kind: 'snapshot', durable: isCheckpoint, memory: true });
      await take(begun.captures, timings_ms);
    } catch (cause) {
      if (this.#signal.aborted) throw this.#state.goingAway();
      const code = isCheckpoint ? 'snapshot_failed' : 'fork_failed';
      throw await this.#undoCapture(record, cause, code, 'was not copied');
    }
    await this.#settleCopy(begun, timings_ms);
  }

  /** With the capture of a guest that runs. @throws PerchError capacity_exhausted */
  async #assertCopyRoom(record: SandboxRecord, memory?: boolean): Promise<void> {
    const { resources } = this.#state;
    const guestBytes = resources.vm ? await resources.copyBytesAtMost(record) : 0;
    await this.#saved.assertCopyRoom(record, guestBytes, memory);
  }

  /** @returns milliseconds of each stage */
  async #capture(
    record: SandboxRecord,
    how: Pick<Capture, 'kind' | 'durable' | 'memory' | 'hold'>,
  ): Promise<Record<string, number>> {
    const guest = this.#state.resources.guest(record);
    return this.#saved.capture({ record, ...guest, ...how, signal: this.#signal });
  }

  /** The same of a guest whose memory is not kept: its file system is written out, and clean. */
  #captureDisk(record: SandboxRecord): Promise<Record<string, number>> {
    const hold = async () => {
      await this.#state.resources.holdDisk(record, this.#signal);
      failpoint('cold.held');
    };
    return this.#capture(record, { ...pausing, memory: false, hold });
  }

  /**
   * Lets a guest go on that was left in the middle of a capture, unless its pause is written. For what is written
   * `settle` is to be called.
   */
  async recover(record: SandboxRecord): Promise<void> {
    const { resources } = this.#state;
    const isWritten = await this.#saved.isComplete(record.id, record.captures);
    if (isWritten && record.status === 'pausing') return;
    const when = `in the middle of ${record.status === 'pausing' ? 'a pause' : 'a copy'}`;
    const lost = await resources.adopt(record);
    if (lost !== undefined) return this.#state.markFailed(`${lost} when the host agent started, ${when}.`);
    try {
      await (isWritten ? resources.vm?.thaw() : this.#takeBack());
    } catch (error) {
      return this.#state.markFailed(`The host agent stopped ${when}. ${sentence(error)}`);
    }
    if (!isWritten) this.#runsOn(record.generation);
  }

  /** Goes on from a capture that an earlier process has written. @throws as SandboxState.insist */
  async settle(record: SandboxRecord): Promise<void> {
    if (record.status === 'pausing') return this.#settlePause(record, {});
    await this.#settleCopy(record);
    this.#watch(record.generation);
  }

  /** The guest runs on. Of a snapshot the checkpoint stays in its history. */
  async #settleCopy(record: SandboxRecord, timings_ms?: Record<string, number>): Promise<void> {
    const isCheckpoint = record.status === 'snapshotting';
    await this.#state.insist('copy', async () => {
      if (!isCheckpoint) await this.#saved.drop(record.id, record.captures);
      this.#state.transition('running', {
        ...(isCheckpoint ? { last_checkpoint: record.captures } : {}),
        ...(timings_ms ? { timings_ms } : {}),
      });
    });
    if (isCheckpoint) await this.#prune(record.id, record.captures);
  }

  /** The snapshot is there, so the guest may never run on: what it holds is given back. */
  async #settlePause(record: SandboxRecord, timings_ms: Record<string, number>): Promise<void> {
    const { resources } = this.#state;
    const start = performance.now();
    await this.#state.insist('pause', async () => {
      await resources.remove(this.#state.expect());
      await this.#saved.settle(record.id, record.captures);
      await this.#prune(record.id, record.captures);
      failpoint('pause.settled');
      const teardown = milliseconds(start);
      const total = (timings_ms.total ?? 0) + teardown;
      this.#state.transition('paused', {
        last_checkpoint: record.captures,
        timings_ms: { ...timings_ms, teardown, total: tenths(total) },
      });
    });
    failpoint('pause.paused');
  }

  /** A guest agent that cannot be told does it by itself after a while. */
  async #letGoOfDisk(): Promise<void> {
    const { resources } = this.#state;
    await this.#state.attempt('let go of the disk', () =>
      resources.letGoOfDisk(this.#state.expect(), this.#signal),
    );
  }

  /** Checkpoints that stay too long go after the next capture. */
  async #prune(id: string, current: number): Promise<void> {
    await this.#state.attempt('prune', () => this.#saved.prune(id, current));
  }

  /** @returns what to tell the one who asked */
  async #undoCapture(
    record: SandboxRecord,
    cause: unknown,
    code: 'pause_failed' | 'snapshot_failed' | 'fork_failed',
    what: string,
  ): Promise<PerchError> {
    const { id } = this.#state;
    const reason = sentence(cause);
    try {
      // A guest whose disk the kernel has given up would run on with errors, and lose what it does.
      if (cause instanceof DiskGone) {
        await this.#saved.drop(id, this.#state.expect().captures);
        throw cause;
      }
      await this.#takeBack();
    } catch (end) {
      // Of a monitor that has ended the capture sees a symptom, and what lets the guest go has the reason.
      const all = [...new Set([reason, sentence(end)])].join('; ');
      await this.#state.fail(`It ${what}, and does not run on. ${all}`);
      const why = this.#state.record?.reason ?? reason;
      return new PerchError('sandbox_failed', `Sandbox ${id} failed. ${why}`, { id, reason: why }, { cause });
    }
    await this.#state.insist('run on', () => this.#runsOn(record.generation));
    const message = `Sandbox ${id} ${what} and runs on. ${reason}`;
    if (isDiskFull(cause)) return new PerchError('host_disk_full', message, {}, { cause });
    return new PerchError(code, message, { id, reason }, { cause });
  }

  /** Lets a guest that is stopped in the middle of a capture go, with nothing of the capture left. */
  async #takeBack(): Promise<void> {
    const { id, captures } = this.#state.expect();
    await this.#saved.drop(id, captures);
    failpoint('unpause.dropped');
    await this.#state.resources.vm?.thaw();
    failpoint('unpause.thawed');
  }

  #runsOn(generation: number): void {
    this.#state.transition('running');
    this.#watch(generation);
  }
}

/** Milliseconds, as they are told. */
function tenths(exact: number): number {
  return Math.round(exact * 10) / 10;
}
