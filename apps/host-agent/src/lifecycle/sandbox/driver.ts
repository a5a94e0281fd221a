/**
 * The one owner of a sandbox: it applies what is asked, one transition at a time. Callers only put
 * intents into its queue and wait.
 */
import { PerchError } from '@perch/protocol';
import { failpoint } from '../../failpoints/index.ts';
import type { Vm } from '../../vmm/index.ts';
import { startCheckpoint } from '../checkpoints/index.ts';
import { asDiskFull, milliseconds, type SandboxRecord, started } from '../journal/index.ts';
import { CheckpointWriter } from './checkpoint-writer.ts';
import {
  type CopyRequest,
  type Intent,
  IntentQueue,
  type PausedWork,
  type Queued,
  type ResumeRequest,
} from './intent-queue.ts';
import type { Resources } from './resources.ts';
import { SandboxState, type SandboxStateDeps, sentence } from './sandbox-state.ts';
import { originOf, type StartPlan } from './start-plan.ts';

export interface DriverDeps extends SandboxStateDeps {
  /**
   * Finds room for a paused sandbox and does `work` before anybody else asks for it.
   * @throws PerchError capacity_exhausted
   */
  admitAgain: (record: SandboxRecord, work: () => void) => Promise<void>;
}

type Waiter = PromiseWithResolvers<void>;

export class SandboxDriver {
  readonly id: string;
  readonly resources: Resources;
  readonly #deps: DriverDeps;
  readonly #state: SandboxState;
  readonly #checkpoints: CheckpointWriter;
  readonly #queue = new IntentQueue<Waiter>();
  readonly #abort = new AbortController();
  #plan: StartPlan | undefined;
  #loop: Promise<void> | undefined;
  #working = false;
  /** What is being done now. */
  #current: Queued<Waiter> | undefined;
  /** Whether it is known what an earlier process has left. */
  #isKnown = false;
  #started: Promise<void> = Promise.resolve();

  constructor(id: string, resources: Resources, deps: DriverDeps) {
    this.id = id;
    this.resources = resources;
    this.#deps = deps;
    const delayed = (error: PerchError) => this.#reject(error);
    this.#state = new SandboxState(id, resources, deps, this.#abort.signal, delayed);
    this.#checkpoints = new CheckpointWriter(this.#state, deps.saved, this.#abort.signal, (generation) =>
      this.#watch(generation),
    );
  }

  get record(): SandboxRecord | undefined {
    return this.#state.record;
  }

  /** Starts the guest; resolves once it runs. The journal has the sandbox as `creating` already. */
  create(generation: number, plan: StartPlan): Promise<void> {
    this.#plan = plan;
    this.#started = this.#ask({ kind: 'create', generation });
    return this.#started;
  }

  /** Settles as the create under way does; at once when there is none. */
  get started(): Promise<void> {
    return this.#started;
  }

  /**
   * Resolves once it is paused; at once when that life is paused already.
   * @param memory whether its memory is kept; else the next life begins from power-on
   * @throws PerchError sandbox_not_running, capacity_exhausted, pause_failed (it runs on), sandbox_failed
   */
  pause(generation: number, memory = true): Promise<void> {
    return this.#ask({ kind: 'pause', generation, memory });
  }

  /**
   * Begins a new life from the snapshot of the last; resolves once it runs, at once when it does already.
   * @throws PerchError sandbox_not_paused, checkpoint_not_found, capacity_exhausted, host_disk_full, snapshot_damaged,
   *   resume_failed (still paused)
   */
  resume(request: ResumeRequest): Promise<void> {
    return this.#ask({ kind: 'resume', ...request });
  }

  /**
   * Lets `request.take` have a checkpoint of the sandbox as it is now, or was. A running one is stopped for a moment,
   * and runs on before the checkpoint is written out.
   * @throws PerchError sandbox_not_running, checkpoint_not_found, capacity_exhausted, snapshot_failed or
   *   fork_failed (it is as before), sandbox_failed
   */
  copy(generation: number, request: CopyRequest): Promise<void> {
    return this.#ask({ kind: 'copy', generation, request });
  }

  /**
   * Does `work` if it is paused at this checkpoint of this life when its turn comes, and nothing else meanwhile.
   * @returns whether it was
   * @throws what `work` throws; PerchError sandbox_not_running when a destroy came first
   */
  async whilePaused(generation: number, checkpoint: number, work: () => Promise<void>): Promise<boolean> {
    let done = false;
    const noted = async () => {
      await work();
      done = true;
    };
    await this.#ask({ kind: 'paused', generation, request: { checkpoint, work: noted } });
    return done;
  }

  /** Fails a sandbox that runs on a disk which is lost. */
  checkDisk(): void {
    const record = this.#working ? undefined : this.record;
    if (record?.status !== 'running' || this.#state.stopped) return;
    const reason = this.resources.diskLoss(record);
    if (reason === undefined) return;
    void this.#ask({ kind: 'exited', generation: record.generation, reason: `${reason}.` }).catch(() => {});
  }

  /** Resolves once nothing is left of the sandbox. Cuts a create short. */
  destroy(): Promise<void> {
    const done = this.#ask({ kind: 'destroy' });
    this.#abort.abort(new Error('The sandbox is being destroyed.'));
    return done;
  }

  /**
   * Finds out what an earlier process has left, and lets it run where it can. Before the network layer starts:
   * nothing is made here. The trouble of one sandbox keeps the host agent from nothing: the others need it.
   */
  async recover(): Promise<void> {
    await this.#state.attempt('recovery', () => this.#findOut());
  }

  /** The part of a recovery that has to be done, however often it fails: it goes on by itself. */
  finishRecovery(): void {
    const { status } = this.#state.expect();
    const done = status === 'destroying' ? this.destroy() : this.#ask({ kind: 'recover' });
    done.catch(() => {});
  }

  /** Safe to repeat until it has succeeded. */
  async #findOut(): Promise<void> {
    const record = this.#state.expect();
    if (record.status === 'running') {
      const lost = await this.resources.adopt(record);
      if (lost === undefined) this.#watch(record.generation);
      else this.#state.markFailed(`${lost} when the host agent started.`);
    } else if (record.status === 'creating') {
      this.#state.markFailed('The host agent stopped while the sandbox was being created.');
    } else if (isCapturing(record)) await this.#checkpoints.recover(record);
    this.#isKnown = true;
  }

  async #finishRecovery(): Promise<void> {
    if (!this.#isKnown) await this.#state.insist('recovery', () => this.#findOut());
    const record = this.#state.expect();
    if (record.status === 'failed') await this.#state.fail(record.reason ?? '');
    else if (record.status === 'resuming') await this.#backToPaused(record);
    else if (isCapturing(record)) await this.#checkpoints.settle(record);
  }

  /**
   * Gives away what it holds, for another driver to go on with.
   * @returns undefined when there is nothing to give: it is being worked on, or does not run
   */
  handOver(): Vm | undefined {
    const { vm } = this.resources;
    if (this.#working || this.#state.stopped || this.record?.status !== 'running') return undefined;
    this.#state.letGo();
    this.resources.vm = undefined;
    return vm;
  }

  /** Lets go without touching the VM, after the step under way. Intents that still wait are refused. */
  async stop(): Promise<void> {
    this.#state.letGo();
    this.resources.vm?.release();
    await this.#loop;
  }

  #ask(intent: Intent): Promise<void> {
    const waiter: Waiter = Promise.withResolvers();
    const { outcome, refused } = this.#queue.put(intent, waiter);
    for (const one of refused) one.reject(this.#state.goingAway());
    if (outcome === 'refused') waiter.reject(this.#state.goingAway());
    if (!this.#working) this.#loop = this.#work();
    return waiter.promise;
  }

  async #work(): Promise<void> {
    this.#working = true;
    for (;;) {
      const record = this.#state.stopped ? undefined : this.record;
      const item = this.#queue.take(record?.generation ?? 0);
      if (!item) {
        // In one breath with the look at the queue: an intent put later starts the work again.
        this.#working = false;
        return;
      }
      this.#current = item;
      const how = await this.#apply(item, record).then(
        () => (waiter: Waiter) => waiter.resolve(),
        (error: unknown) => (waiter: Waiter) => waiter.reject(error),
      );
      this.#current = undefined;
      this.#queue.done(item);
      for (const waiter of item.waiters) how(waiter);
    }
  }

  /** Those who wait for what is being done are answered; it goes on. */
  #reject(error: PerchError): void {
    for (const waiter of this.#current?.waiters ?? []) waiter.reject(error);
  }

  async #apply({ intent }: Queued<Waiter>, record: SandboxRecord | undefined): Promise<void> {
    if (this.#state.stopped) throw new Error(`The host agent lets go of sandbox ${this.id}.`);
    if (!record) {
      // It is gone, which is what a destroy asks for.
      if (intent.kind !== 'destroy') this.#state.expect();
      return;
    }
    if (intent.kind === 'create') await this.#create(record);
    else if (intent.kind === 'recover') await this.#finishRecovery();
    else if (intent.kind === 'destroy')
      await this.#state.insist('destroy', () => this.#destroy(), this.#state.released);
    else if (intent.kind === 'pause') await this.#checkpoints.pause(record, intent.generation, intent.memory);
    else if (intent.kind === 'resume') await this.#resume(record, intent);
    else if (intent.kind === 'copy') await this.#checkpoints.copy(record, intent.generation, intent.request);
    else if (intent.kind === 'paused') await doWhilePaused(record, intent.generation, intent.request);
    else if (record.status === 'running') await this.#state.fail(intent.reason);
  }

  async #create(record: SandboxRecord): Promise<void> {
    const plan = this.#plan;
    if (!plan) throw new Error(`Sandbox ${this.id} has no way to start.`);
    this.#plan = undefined;
    started(record, 'journaled');
    try {
      const { signal } = this.#abort;
      const start = performance.now();
      const origin = await originOf(plan, this.#state.expect(), this.resources, this.#deps, signal);
      signal.throwIfAborted();
      const template = milliseconds(start);
      const made = this.#state.expect();
      const { laps, identity } = plan.secrets
        ? await this.resources.make(made, origin, plan.secrets, signal)
        : await this.resources.makeStill(made, origin, signal);
      const timings_ms = { template, ...laps, total: milliseconds(start) };
      const at = origin.kind === 'snapshot' ? { last_checkpoint: startCheckpoint } : {};
      this.#state.transition('running', { timings_ms, identity, ...at });
      started(record, 'running');
      this.#watch(record.generation);
    } catch (cause) {
      if (this.#abort.signal.aborted) throw this.#state.goingAway();
      const reason = sentence(cause);
      await this.#state.fail(reason);
      const known = asDiskFull(cause);
      if (known instanceof PerchError) throw known;
      throw new PerchError(
        'sandbox_failed',
        `Sandbox ${this.id} did not start. ${reason}`,
        { id: this.id, reason },
        { cause },
      );
    }
  }

  async #resume(
    record: SandboxRecord,
    { generation, accessToken, checkpoint, memory }: ResumeRequest,
  ): Promise<void> {
    if (record.status === 'running' && record.generation === generation) return;
    if (record.status !== 'paused' || record.generation + 1 !== generation) {
      const { id } = this;
      const status = record.status === 'paused' ? `paused in life ${record.generation}` : record.status;
      throw new PerchError('sandbox_not_paused', `Sandbox ${id} is ${status}.`, {
        id,
        status: record.status,
      });
    }
    const at = checkpoint ?? record.last_checkpoint;
    const snapshot = await this.#state.saved(record, at, this.#abort.signal, memory);
    const origin = { kind: 'snapshot', snapshot } as const;
    const rebooted = memory === false ? at : null;
    await this.#deps.admitAgain(record, () => this.#state.transition('resuming', { generation, rebooted }));
    const resuming = this.#state.expect();
    started(resuming, 'journaled');
    try {
      const made = await this.resources.make(resuming, origin, { accessToken }, this.#abort.signal);
      const { laps: timings_ms, identity } = made;
      this.#state.transition('running', {
        timings_ms,
        identity,
        ...(at === null ? {} : { last_checkpoint: at }),
      });
      started(resuming, 'running');
      this.#watch(generation);
    } catch (cause) {
      if (this.#abort.signal.aborted) throw this.#state.goingAway();
      await this.#backToPaused(this.#state.expect());
      const known = asDiskFull(cause);
      if (known instanceof PerchError) throw known;
      const { id } = this;
      const reason = sentence(cause);
      const message = `Sandbox ${id} was not resumed and is still paused. ${reason}`;
      throw new PerchError('resume_failed', message, { id, reason }, { cause });
    }
  }

  async #backToPaused(record: SandboxRecord): Promise<void> {
    await this.#state.insist('undo', async () => {
      await this.resources.remove(this.#state.expect());
      this.#state.transition('paused', { generation: record.generation - 1 });
    });
  }

  async #destroy(): Promise<void> {
    if (this.#state.expect().status !== 'destroying') this.#state.transition('destroying');
    failpoint('destroy.journaled');
    await this.resources.remove(this.#state.expect());
    await this.#deps.saved.removeAll(this.id);
    failpoint('destroy.snapshots_removed');
    this.#state.transition('destroyed');
    failpoint('destroy.gone');
  }

  #watch(generation: number): void {
    const { vm } = this.resources;
    vm?.room?.watch((lacks) => this.#state.tellOfRoom(lacks));
    void vm?.exited.then((reason) => {
      if (this.#state.stopped || this.#queue.closing) return;
      void this.#ask({ kind: 'exited', generation, reason }).catch(() => {});
    });
  }
}

async function doWhilePaused(
  { status, generation, last_checkpoint }: SandboxRecord,
  wanted: number,
  { checkpoint, work }: PausedWork,
): Promise<void> {
  if (status === 'paused' && generation === wanted && last_checkpoint === checkpoint) await work();
}

function isCapturing({ status }: SandboxRecord): boolean {
  return status === 'pausing' || status === 'snapshotting' || status === 'forking';
}
