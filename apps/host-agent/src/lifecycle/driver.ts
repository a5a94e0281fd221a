/**
 * The one owner of a sandbox: it applies what is asked, one transition at a time. Callers only put
 * intents into its queue and wait.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { PerchError } from '@perch/protocol';
import type { Logger } from 'pino';
import type { BaseTemplate } from '../template/index.ts';
import { type Intent, IntentQueue, type Queued } from './intent-queue.ts';
import type { Journal, SandboxRecord, TransitionDetail } from './journal.ts';
import type { Resources, Secrets } from './resources.ts';
import type { HostState } from './state-machine.ts';

export interface DriverDeps {
  journal: Journal;
  log: Logger;
  /** Told after every transition; `destroyed` is the last. */
  changed: (record: SandboxRecord) => void;
  /** Pauses between the tries of a teardown that failed, milliseconds; the last repeats. */
  retryMs: readonly number[];
}

type Waiter = PromiseWithResolvers<void>;

export class SandboxDriver {
  readonly id: string;
  readonly resources: Resources;
  readonly #deps: DriverDeps;
  readonly #queue = new IntentQueue<Waiter>();
  readonly #abort = new AbortController();
  #start: { template: BaseTemplate; secrets: Secrets } | undefined;
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
  create(generation: number, template: BaseTemplate, secrets: Secrets): Promise<void> {
    this.#start = { template, secrets };
    this.#started = this.#ask({ kind: 'create', generation });
    return this.#started;
  }

  /** Settles as the create under way does; at once when there is none. */
  get started(): Promise<void> {
    return this.#started;
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
    }
  }

  /** The part of a recovery that gives things back. */
  async finishRecovery(): Promise<void> {
    const record = this.#expect();
    if (record.status === 'destroying') void this.destroy().catch(() => {});
    else if (record.status === 'failed') await this.#removeAll();
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
    else if (record.status === 'running') {
      this.#fail(intent.reason);
      await this.#removeAll();
    }
  }

  async #create(record: SandboxRecord): Promise<void> {
    const { template, secrets } = this.#start ?? {};
    if (!template || !secrets) throw new Error(`Sandbox ${this.id} has no way to start.`);
    this.#start = undefined;
    try {
      const timings_ms = await this.resources.make(record, template, secrets, this.#abort.signal);
      this.#transition('running', { timings_ms });
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

  async #destroy(record: SandboxRecord): Promise<void> {
    if (record.status !== 'destroying') this.#transition('destroying');
    await this.#removeAll();
    this.#transition('destroyed');
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

function settle(item: Queued<Waiter>, how: (waiter: Waiter) => void): void {
  for (const waiter of item.waiters) how(waiter);
}

function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
