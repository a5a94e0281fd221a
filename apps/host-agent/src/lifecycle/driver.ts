/**
 * The one owner of a sandbox: it applies what is asked, one transition at a time. Callers only put
 * intents into its queue and wait.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { PerchError } from '@perch/protocol';
import type { Logger } from 'pino';
import { failpoint } from '../failpoints/index.ts';
import type { Vm } from '../vmm/index.ts';
import { captured, started } from './failpoints.ts';
import { type CopyRequest, type Intent, IntentQueue, type Queued } from './intent-queue.ts';
import type { Journal, SandboxRecord, TransitionDetail } from './journal.ts';
import type { Origin, Resources, Secrets } from './resources.ts';
import type { HostState } from './state-machine.ts';
import { milliseconds } from './stopwatch.ts';

export interface DriverDeps {
  journal: Journal;
  log: Logger;
  /** Told after every transition; `destroyed` is the last. */
  changed: (record: SandboxRecord) => void;
  /** Pauses between the tries of a teardown that failed, milliseconds; the last repeats. */
  retryMs: readonly number[];
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
  readonly #queue = new IntentQueue<Waiter>();
  readonly #abort = new AbortController();
  #start: { origin: () => Promise<Origin>; secrets: Secrets } | undefined;
  #loop: Promise<void> | undefined;
  #working = false;
  #started: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(id: string, resources: Resources, deps: DriverDeps) {
    this.id = id;
    this.resources = resources;
    this.#deps = deps;
  }

  get record(): SandboxRecord | undefined {
    return this.#deps.journal.get(this.id);
  }

  /** Starts the guest; resolves once it runs. The journal has the sandbox as `creating` already. */
  create(generation: number, origin: () => Promise<Origin>, secrets: Secrets): Promise<void> {
    this.#start = { origin, secrets };
    this.#started = this.#ask({ kind: 'create', generation });
    return this.#started;
  }

  /** Settles as the create under way does; at once when there is none. */
  get started(): Promise<void> {
    return this.#started;
  }

  /**
   * Resolves once it is paused; at once when that life is paused already.
   * @throws PerchError sandbox_not_running, capacity_exhausted, pause_failed (it runs on), sandbox_failed
   */
  pause(generation: number): Promise<void> {
    return this.#ask({ kind: 'pause', generation });
  }

  /**
   * Begins a new life from the snapshot of the last; resolves once it runs, at once when it does already.
   * @param from point of its history; default: the last
   * @throws PerchError sandbox_not_paused, generation_not_found, capacity_exhausted, snapshot_damaged,
   *   resume_failed (still paused)
   */
  resume(generation: number, accessToken: string, from?: number): Promise<void> {
    return this.#ask({ kind: 'resume', generation, accessToken, from });
  }

  /**
   * Lets `request.take` have a point of the sandbox as it is now, or was. One that runs is stopped for a moment,
   * and runs on before the point is written out.
   * @throws PerchError sandbox_not_running, generation_not_found, capacity_exhausted, snapshot_failed or
   *   fork_failed (it is as before), sandbox_failed
   */
  copy(generation: number, request: CopyRequest): Promise<void> {
    return this.#ask({ kind: 'copy', generation, request });
  }

  /** Resolves once nothing is left of the sandbox. Cuts a create short. */
  destroy(): Promise<void> {
    const done = this.#ask({ kind: 'destroy' });
    this.#abort.abort(new Error('The sandbox is being destroyed.'));
    return done;
  }

  /** Finishes or undoes what an earlier process began. Before the network layer starts: nothing is made here. */
  async recover(): Promise<void> {
    const record = this.#expect();
    if (record.status === 'running') {
      if (await this.resources.adopt(record)) this.#watch(record.generation);
      else this.#fail('The VM monitor was gone when the host agent started.');
    } else if (record.status === 'creating') {
      this.#fail('The host agent stopped while the sandbox was being created.');
    } else if (record.status === 'pausing' && !(await this.resources.isCaptured(record))) {
      if (await this.resources.adopt(record)) await this.#runOn(record.generation);
      else this.#fail('The VM monitor was gone when the host agent started, in the middle of a pause.');
    } else if (record.status === 'snapshotting' || record.status === 'forking') {
      if (await this.resources.adopt(record)) await this.#recoverCopy(record);
      else this.#fail('The VM monitor was gone when the host agent started, in the middle of a copy.');
    }
  }

  /** The part of a recovery that gives things back. */
  async finishRecovery(): Promise<void> {
    const record = this.#expect();
    if (record.status === 'destroying') void this.destroy().catch(() => {});
    else if (record.status === 'failed') await this.#removeAll();
    else if (record.status === 'pausing') await this.#settlePause(record, {});
    else if (record.status === 'resuming') await this.#backToPaused(record);
  }

  /**
   * Gives away what it holds, for another driver to go on with.
   * @returns undefined when there is nothing to give: it is being worked on, or does not run
   */
  handOver(): Vm | undefined {
    const { vm } = this.resources;
    if (this.#working || this.#stopped || this.record?.status !== 'running') return undefined;
    this.#stopped = true;
    this.resources.vm = undefined;
    return vm;
  }

  /** Lets go without touching the VM, after the transition under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.resources.vm?.release();
    await this.#loop;
  }

  #ask(intent: Intent): Promise<void> {
    const waiter: Waiter = Promise.withResolvers();
    const { outcome, refused } = this.#queue.put(intent, waiter);
    for (const one of refused) one.reject(this.#goingAway());
    if (outcome === 'refused') waiter.reject(this.#goingAway());
    if (!this.#working) this.#loop = this.#work();
    return waiter.promise;
  }

  async #work(): Promise<void> {
    this.#working = true;
    for (;;) {
      const record = this.#stopped ? undefined : this.record;
      const item = record && this.#queue.take(record.generation);
      if (!item) {
        // In one breath with the look at the queue: an intent put later starts the work again.
        this.#working = false;
        return;
      }
      await this.#apply(item, record).then(
        () => settle(item, (waiter) => waiter.resolve()),
        (error: unknown) => settle(item, (waiter) => waiter.reject(error)),
      );
    }
  }

  async #apply({ intent }: Queued<Waiter>, record: SandboxRecord): Promise<void> {
    if (intent.kind === 'create') await this.#create(record);
    else if (intent.kind === 'destroy') await this.#destroy(record);
    else if (intent.kind === 'pause') await this.#pause(record, intent.generation);
    else if (intent.kind === 'resume') await this.#resume(record, intent);
    else if (intent.kind === 'copy') await this.#copy(record, intent.generation, intent.request);
    else if (record.status === 'running') {
      this.#fail(intent.reason);
      await this.#removeAll();
    }
  }

  async #create(record: SandboxRecord): Promise<void> {
    const { origin, secrets } = this.#start ?? {};
    if (!origin || !secrets) throw new Error(`Sandbox ${this.id} has no way to start.`);
    this.#start = undefined;
    started(record, 'journaled');
    try {
      const { signal } = this.#abort;
      const start = performance.now();
      const from = await Promise.race([origin(), aborted(signal)]);
      const template = milliseconds(start);
      const laps = await this.resources.make(this.#expect(), from, secrets, signal);
      const timings_ms = { template, ...laps, total: milliseconds(start) };
      this.#transition('running', { timings_ms });
      started(record, 'running');
      this.#watch(record.generation);
    } catch (cause) {
      if (this.#abort.signal.aborted) throw this.#goingAway();
      const reason = sentence(cause);
      this.#fail(reason);
      await this.#removeAll();
      if (cause instanceof PerchError) throw cause;
      throw new PerchError(
        'sandbox_failed',
        `Sandbox ${this.id} did not start. ${reason}`,
        { id: this.id, reason },
        { cause },
      );
    }
  }

  async #pause(record: SandboxRecord, generation: number): Promise<void> {
    const { id } = this;
    if (record.status === 'paused' && record.generation === generation) return;
    if (record.status !== 'running' || record.generation !== generation) throw notRunning(id, record.status);
    await this.resources.assertRoom(record);
    this.#transition('pausing', { captures: record.captures + 1 });
    captured(this.#expect(), 'journaled');
    let timings_ms: Record<string, number>;
    try {
      const how = { kind: 'pause', durable: true } as const;
      timings_ms = await this.resources.capture(this.#expect(), how, this.#abort.signal);
    } catch (cause) {
      if (this.#abort.signal.aborted) throw this.#goingAway();
      throw await this.#undoCapture(record, cause, 'pause_failed', 'was not paused');
    }
    await this.#settlePause(this.#expect(), timings_ms);
  }

  async #copy(record: SandboxRecord, generation: number, request: CopyRequest): Promise<void> {
    const { id } = this;
    const { as, from, take } = request;
    if (record.generation !== generation || (record.status !== 'running' && record.status !== 'paused')) {
      throw notRunning(id, record.status);
    }
    if (record.status === 'paused' || from !== undefined) {
      const point = from ?? record.snapshot;
      // Whatever cannot be gone on from is said before anything is made of it.
      await this.resources.saved(record, point);
      if (point !== null) await take(point, {});
      return;
    }
    await this.resources.assertRoom(record, 1);
    this.#transition(as, { captures: record.captures + 1 });
    const begun = this.#expect();
    captured(begun, 'journaled');
    const isPoint = as === 'snapshotting';
    let timings_ms: Record<string, number>;
    try {
      timings_ms = await this.resources.capture(
        begun,
        { kind: 'snapshot', durable: isPoint },
        this.#abort.signal,
      );
      await take(begun.captures, timings_ms);
    } catch (cause) {
      if (this.#abort.signal.aborted) throw this.#goingAway();
      const code = isPoint ? 'snapshot_failed' : 'fork_failed';
      throw await this.#undoCapture(record, cause, code, 'was not copied');
    }
    await this.#settleCopy(begun, timings_ms);
  }

  /** The guest runs on. Of a snapshot the point stays in its history. */
  async #settleCopy(record: SandboxRecord, timings_ms?: Record<string, number>): Promise<void> {
    const isPoint = record.status === 'snapshotting';
    if (!isPoint) await this.resources.dropCapture(record);
    this.#transition('running', {
      ...(isPoint ? { snapshot: record.captures } : {}),
      ...(timings_ms ? { timings_ms } : {}),
    });
    if (isPoint) await this.resources.prune(this.#expect());
  }

  async #recoverCopy(record: SandboxRecord): Promise<void> {
    if (!(await this.resources.isCaptured(record))) return this.#runOn(record.generation);
    await this.resources.vm?.thaw();
    await this.#settleCopy(record);
    this.#watch(record.generation);
  }

  /** The snapshot is there, so the guest may never run on: what it holds is given back. */
  async #settlePause(record: SandboxRecord, timings_ms: Record<string, number>): Promise<void> {
    const start = performance.now();
    await this.#removeAll();
    await this.resources.settleCapture(record);
    failpoint('pause.settled');
    const teardown = milliseconds(start);
    const total = (timings_ms.total ?? 0) + teardown;
    this.#transition('paused', {
      snapshot: record.captures,
      timings_ms: { ...timings_ms, teardown, total: Math.round(total * 10) / 10 },
    });
    failpoint('pause.paused');
  }

  /** @returns what to tell the one who asked */
  async #undoCapture(
    record: SandboxRecord,
    cause: unknown,
    code: 'pause_failed' | 'snapshot_failed' | 'fork_failed',
    what: string,
  ): Promise<PerchError> {
    const { id } = this;
    const reason = sentence(cause);
    try {
      await this.#runOn(record.generation);
    } catch {
      this.#fail(`It ${what}, and does not run on. ${reason}`);
      await this.#removeAll();
      const why = this.record?.reason ?? reason;
      return new PerchError('sandbox_failed', `Sandbox ${id} failed. ${why}`, { id, reason: why }, { cause });
    }
    return new PerchError(code, `Sandbox ${id} ${what} and runs on. ${reason}`, { id, reason }, { cause });
  }

  /** Lets a guest that is stopped in the middle of a capture go, with nothing of the capture left. */
  async #runOn(generation: number): Promise<void> {
    await this.resources.dropCapture(this.#expect());
    failpoint('unpause.dropped');
    await this.resources.vm?.thaw();
    failpoint('unpause.thawed');
    this.#transition('running');
    this.#watch(generation);
  }

  async #resume(
    record: SandboxRecord,
    { generation, accessToken, from }: Extract<Intent, { kind: 'resume' }>,
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
    const point = from ?? record.snapshot;
    const origin = { kind: 'snapshot', snapshot: await this.resources.saved(record, point) } as const;
    await this.#deps.admitAgain(record, () => this.#transition('resuming', { generation }));
    const resuming = this.#expect();
    started(resuming, 'journaled');
    try {
      const timings_ms = await this.resources.make(resuming, origin, { accessToken }, this.#abort.signal);
      this.#transition('running', { timings_ms, ...(point === null ? {} : { snapshot: point }) });
      started(resuming, 'running');
      this.#watch(generation);
    } catch (cause) {
      if (this.#abort.signal.aborted) throw this.#goingAway();
      await this.#backToPaused(this.#expect());
      if (cause instanceof PerchError) throw cause;
      const { id } = this;
      const reason = sentence(cause);
      const message = `Sandbox ${id} was not resumed and is still paused. ${reason}`;
      throw new PerchError('resume_failed', message, { id, reason }, { cause });
    }
  }

  async #backToPaused(record: SandboxRecord): Promise<void> {
    await this.#removeAll();
    this.#transition('paused', { generation: record.generation - 1 });
  }

  async #destroy(record: SandboxRecord): Promise<void> {
    if (record.status !== 'destroying') this.#transition('destroying');
    failpoint('destroy.journaled');
    await this.#removeAll();
    await this.resources.removeSnapshots(record.id);
    failpoint('destroy.snapshots_removed');
    this.#transition('destroyed');
    failpoint('destroy.gone');
  }

  /** Tries until it is done or the process stops: what is left over belongs to somebody else by then. */
  async #removeAll(): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.resources.remove(this.#expect());
      } catch (error) {
        this.#deps.log.error(
          { sandbox: this.id, err: error, attempt },
          'teardown failed, will be tried again',
        );
        const { retryMs } = this.#deps;
        await sleep(retryMs[Math.min(attempt, retryMs.length - 1)]);
        if (this.#stopped) throw error;
      }
    }
  }

  #watch(generation: number): void {
    void this.resources.vm?.exited.then((reason) => {
      if (this.#stopped || this.#queue.closing) return;
      void this.#ask({ kind: 'exited', generation, reason }).catch(() => {});
    });
  }

  #fail(reason: string): void {
    this.#transition('failed', { reason });
    failpoint('fail.journaled');
  }

  #transition(to: HostState, detail: TransitionDetail = {}): void {
    const before = this.#expect();
    this.#deps.journal.transition(this.id, to, detail);
    const after = this.record ?? { ...before, status: to };
    this.#deps.log.info(
      { sandbox: this.id, generation: after.generation, from: before.status, to, ...detail },
      'transition',
    );
    this.#deps.changed(after);
  }

  #expect(): SandboxRecord {
    const record = this.record;
    if (!record)
      throw new PerchError('sandbox_not_found', `There is no sandbox ${this.id}.`, { id: this.id });
    return record;
  }

  #goingAway(): PerchError {
    const details = { id: this.id, status: 'destroying' };
    return new PerchError('sandbox_not_running', `Sandbox ${this.id} is being destroyed.`, details);
  }
}

function notRunning(id: string, status: HostState): PerchError {
  return new PerchError('sandbox_not_running', `Sandbox ${id} is ${status}, not running.`, { id, status });
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

function settle(item: Queued<Waiter>, how: (waiter: Waiter) => void): void {
  for (const waiter of item.waiters) how(waiter);
}

function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
