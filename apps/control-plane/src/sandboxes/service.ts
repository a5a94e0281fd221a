/**
 * The life of sandboxes as perchd sees it:
 *
 *     create ─▶ creating ─▶ running ─▶ destroying ─▶ destroyed
 *                   │          └─▶ failed ─┘ ▲
 *                   └──────────────────────────┘
 *
 * perchd is the only writer of its database and holds every sandbox that is not destroyed in memory, so that
 * commands and transfers ask no database. A row is written before the host is asked for anything, and the
 * reconciler finishes what a crash left half done.
 */
import { randomBytes } from 'node:crypto';
import {
  type CreateSandbox,
  type HostSandbox,
  isSandboxId,
  newSandboxId,
  PerchError,
  type Sandbox,
  type SandboxStatus,
} from '@perch/protocol';
import type { Logger } from 'pino';
import type { NewSandboxRow, SandboxChanges, SandboxRow } from '../database/index.ts';
import type { HostClient, HostDirectory } from '../hosts/index.ts';
import type { ActivityTracker } from './activity.ts';
import { Expiry } from './expiry.ts';
import type { Idempotency, IdempotencyKey } from './idempotency.ts';
import { Life, refusalOf } from './life.ts';
import { persist } from './persist.ts';
import type { ListFilter, SandboxEvent, SandboxRepository } from './repository.ts';
import { type FullRequest, withDefaults } from './request.ts';
import { toSandbox } from './view.ts';

export interface CreateContext {
  requestId: string;
  /** Aborts when nobody waits for the answer; absent when a repeat may still fetch it. */
  clientGone?: AbortSignal;
  idempotencyKey?: IdempotencyKey;
}

interface Dependencies {
  repository: SandboxRepository;
  idempotency: Idempotency;
  activity: ActivityTracker;
  host: HostClient;
  directory: HostDirectory;
  log: Logger;
}

/** How long a failed sandbox, with its reason and console, is kept. */
const failedKeptMs = 3600 * 1000;

const beforeDestroying: SandboxStatus[] = [
  'creating',
  'running',
  'pausing',
  'paused',
  'resuming',
  'snapshotting',
  'forking',
  'failed',
];

/** Refusals by which the host says that it made nothing. */
const neverRan = new Set<string>([
  'capacity_exhausted',
  'template_not_found',
  'disk_too_small',
  'validation_failed',
]);

export class SandboxService implements Disposable {
  readonly #repository: SandboxRepository;
  readonly #idempotency: Idempotency;
  readonly #activity: ActivityTracker;
  readonly #host: HostClient;
  readonly #directory: HostDirectory;
  readonly #log: Logger;
  /** Every sandbox that is not destroyed. */
  readonly #lives = new Map<string, Life>();
  readonly #starting = new Map<string, Promise<unknown>>();
  readonly #destroying = new Map<string, Promise<void>>();
  /** Ends that the host told while the start was not yet written down. */
  readonly #early = new Map<string, HostSandbox>();
  readonly #expiry: Expiry;

  constructor(dependencies: Dependencies) {
    this.#repository = dependencies.repository;
    this.#idempotency = dependencies.idempotency;
    this.#activity = dependencies.activity;
    this.#host = dependencies.host;
    this.#directory = dependencies.directory;
    this.#log = dependencies.log;
    this.#expiry = new Expiry(
      (id) => this.#lives.get(id)?.deadline(),
      (id) => this.#expired(id),
    );
  }

  /** Takes over what the database holds. */
  async load(): Promise<void> {
    for (const row of await this.#repository.live()) {
      this.#lives.set(row.id, new Life(row));
      this.#expiry.arm(row.id);
    }
  }

  /** Creates one, or gives the first answer of its idempotency key. */
  async create(request: CreateSandbox, context: CreateContext): Promise<Sandbox> {
    const full = withDefaults(request);
    const key = context.idempotencyKey;
    if (!key) return toSandbox(await this.#create(full, context));
    return this.#idempotency.once(
      key,
      full,
      async () => toSandbox(await this.#create(full, context)),
      async (id) => {
        const life = this.#lives.get(id);
        if (life?.status === 'creating') return 'pending';
        const row = life?.status === 'running' ? await this.#repository.find(id) : undefined;
        return row?.status === 'running' ? toSandbox(row, life) : 'gone';
      },
    );
  }

  async get(id: string): Promise<Sandbox> {
    return toSandbox(await this.#find(id), this.#lives.get(id));
  }

  async list(filter: ListFilter): Promise<SandboxRow[]> {
    return this.#repository.list(filter);
  }

  toSandbox(row: SandboxRow): Sandbox {
    return toSandbox(row, this.#lives.get(row.id));
  }

  /** The life of a running sandbox, from memory when there is one. */
  async running(id: string): Promise<Life> {
    const life = this.#lives.get(id);
    if (life?.status === 'running') return life;
    if (life) throw life.refusal();
    const row = await this.#find(id);
    throw refusalOf(id, row.status, row.reason);
  }

  /** Resolves when the sandbox is gone; also when it was. */
  destroy(id: string, detail: string, requestId?: string): Promise<void> {
    const going = this.#destroying.get(id);
    if (going) return going;
    const task = this.#destroy(id, detail, requestId).finally(() => this.#destroying.delete(id));
    this.#destroying.set(id, task);
    return task;
  }

  async setTimeout(id: string, timeoutSec: number): Promise<Sandbox> {
    const life = await this.running(id);
    const expiresAt = new Date(Date.now() + timeoutSec * 1000);
    const row = await this.#repository.setTimeout(id, timeoutSec, expiresAt);
    if (!row) throw (await this.running(id)).refusal();
    life.timeoutSec = timeoutSec;
    life.expiresAt = expiresAt;
    // A batch of activity that was under way may have written the older end after this one.
    this.#activity.changed(life);
    this.#expiry.arm(id);
    return toSandbox(row, life);
  }

  async logs(id: string, requestId: string): Promise<{ events: SandboxEvent[]; console: Buffer }> {
    const row = await this.#find(id);
    const console = row.status === 'destroyed' ? Buffer.alloc(0) : await this.#host.console(id, requestId);
    return { events: await this.#repository.events(id), console };
  }

  /** Counts as use of the sandbox until it is disposed of. */
  hold(life: Life): Disposable {
    return this.#activity.hold(life);
  }

  counts(): Map<SandboxStatus, number> {
    const counts = new Map<SandboxStatus, number>();
    for (const { status } of this.#lives.values()) counts.set(status, (counts.get(status) ?? 0) + 1);
    return counts;
  }

  /** Sandboxes that nothing in this process works on; what the reconciler may judge. */
  settled(): Life[] {
    return [...this.#lives.values()].filter(({ id }) => !this.#starting.has(id) && !this.#destroying.has(id));
  }

  /** What the host says of one sandbox. */
  async observed(seen: HostSandbox): Promise<void> {
    const { id } = seen;
    const ended = seen.status === 'failed' || seen.status === 'destroyed';
    if (this.#starting.has(id)) {
      if (ended) this.#early.set(id, seen);
      return;
    }
    if (this.#destroying.has(id)) return;
    const life = this.#lives.get(id);
    if (!life) {
      if (seen.status !== 'destroyed') await this.#sweep(id);
      return;
    }
    if (seen.generation < life.generation) return;
    if (seen.status === 'destroyed') await this.#gone(life, 'destroyed on its host');
    else if (life.status === 'destroying') await this.destroy(id, 'finished after a restart');
    else if (seen.status === 'failed') await this.#fail(life, seen.reason ?? 'the VM ended');
    else if (life.status === 'failed') await this.#sweep(id);
    else if (life.status === 'creating') await this.#recoverCreating(life, seen);
  }

  /** The host has it no more. */
  async missing(life: Life): Promise<void> {
    if (this.#lives.get(life.id) !== life) return;
    if (life.status === 'running') await this.#fail(life, 'Its host no longer has it.');
    else if (life.status === 'creating') {
      await this.destroy(life.id, 'perchd ended while it was being created');
    } else if (life.status === 'destroying') await this.destroy(life.id, 'finished after a restart');
  }

  /** Forgets what was destroyed a week ago. */
  async purge(): Promise<void> {
    await this.#repository.purgeDestroyed(new Date(Date.now() - 7 * 24 * 3600 * 1000));
    await this.#idempotency.purge();
  }

  [Symbol.dispose](): void {
    this.#expiry[Symbol.dispose]();
  }

  async #find(id: string): Promise<SandboxRow> {
    const row = isSandboxId(id) ? await this.#repository.find(id) : undefined;
    if (!row) throw new PerchError('sandbox_not_found', `No sandbox "${id.slice(0, 64)}".`, { id });
    return row;
  }

  async #create(request: FullRequest, context: CreateContext): Promise<SandboxRow> {
    const { hostId, template } = await this.#directory.template(request.template);
    if (request.disk_mb < template.disk_mb) {
      throw new PerchError(
        'disk_too_small',
        `disk_mb must be at least ${template.disk_mb} for template "${template.name}", got ${request.disk_mb}`,
        { disk_mb: request.disk_mb, minimum_mb: template.disk_mb },
      );
    }
    const { env, ...columns } = request;
    const row: NewSandboxRow = {
      ...columns,
      id: newSandboxId(),
      status: 'creating',
      metadata: JSON.stringify(request.metadata),
      host_id: hostId,
      host_ip: null,
      generation: 1,
      access_token: randomBytes(32).toString('hex'),
      created_at: new Date(),
    };
    const start = this.#start(row, env, context);
    this.#starting.set(
      row.id,
      start.catch(() => {}),
    );
    try {
      return await start;
    } finally {
      this.#starting.delete(row.id);
      const early = this.#early.get(row.id);
      this.#early.delete(row.id);
      if (early) await this.observed(early);
    }
  }

  async #start(row: NewSandboxRow, env: Record<string, string>, context: CreateContext): Promise<SandboxRow> {
    const { id, generation } = row;
    const life = new Life(await this.#repository.insert(row, context.idempotencyKey));
    this.#lives.set(id, life);
    const abandon = () => this.#inBackground(this.destroy(id, 'its client went away during the create'));
    context.clientGone?.addEventListener('abort', abandon, { once: true });
    if (context.clientGone?.aborted) abandon();
    let seen: HostSandbox;
    try {
      seen = await this.#host.create(
        id,
        {
          generation,
          template: row.template,
          vcpus: row.vcpus,
          memory_mb: row.memory_mb,
          disk_mb: row.disk_mb,
          access_token: row.access_token,
          env,
        },
        context.requestId,
      );
    } catch (error) {
      await this.#undo(life, error);
      throw life.status === 'destroying' ? life.refusal() : error;
    }
    const running = await this.#run(life, seen, null);
    if (!running) throw life.refusal();
    return running;
  }

  async #run(life: Life, seen: HostSandbox, detail: string | null): Promise<SandboxRow | undefined> {
    const now = new Date();
    return this.#transition(
      life,
      ['creating'],
      {
        status: 'running',
        host_ip: seen.address,
        started_at: now,
        last_active_at: now,
        expires_at: new Date(now.getTime() + life.timeoutSec * 1000),
      },
      detail,
    );
  }

  /** Takes a start back. What the host refused was never made; of anything else the outcome is unknown. */
  async #undo(life: Life, error: unknown): Promise<void> {
    if (error instanceof PerchError && neverRan.has(error.code) && life.status === 'creating') {
      await persist(() => this.#repository.removeCreating(life.id));
      this.#lives.delete(life.id);
      return;
    }
    const why = error instanceof Error ? error.message : 'unknown error';
    this.#inBackground(this.destroy(life.id, `the create failed: ${why}`.slice(0, 500)));
  }

  async #destroy(id: string, detail: string, requestId: string | undefined): Promise<void> {
    const life = this.#lives.get(id);
    if (!life) {
      await this.#find(id);
      return;
    }
    if (life.status !== 'destroying') {
      const row = await this.#transition(life, beforeDestroying, { status: 'destroying' }, detail);
      if (!row) return;
    }
    await this.#host.destroy(id, requestId);
    const starting = this.#starting.get(id);
    if (starting) {
      // The call to start it may have come to the host after the one to destroy it.
      await starting;
      await this.#host.destroy(id, requestId);
    }
    await this.#gone(life, null);
  }

  async #gone(life: Life, detail: string | null): Promise<void> {
    await this.#transition(
      life,
      [...beforeDestroying, 'destroying'],
      { status: 'destroyed', host_ip: null, expires_at: null, access_token: '', ended_at: new Date() },
      detail,
    );
    this.#expiry.disarm(life.id);
    this.#lives.delete(life.id);
  }

  async #fail(life: Life, reason: string): Promise<void> {
    if (life.status === 'failed') return;
    const now = Date.now();
    this.#log.warn({ sandbox: life.id, reason }, 'a sandbox failed');
    await this.#transition(
      life,
      beforeDestroying,
      {
        status: 'failed',
        reason: reason.slice(0, 1_000),
        host_ip: null,
        ended_at: new Date(now),
        expires_at: new Date(now + failedKeptMs),
      },
      reason.slice(0, 1_000),
    );
  }

  /**
   * A start that a crash of perchd cut off. The one who asked learns the id by repeating the request when it
   * had an idempotency key; otherwise nobody knows the sandbox, and it is destroyed.
   */
  async #recoverCreating(life: Life, seen: HostSandbox): Promise<void> {
    if (!(await this.#idempotency.isAsked(life.id))) {
      await this.destroy(life.id, 'perchd ended while it was being created');
    } else if (seen.status === 'running') {
      await this.#run(life, seen, 'adopted after a restart of perchd');
    }
  }

  /** Writes a change and takes it over; undefined when the sandbox was in none of the expected statuses. */
  async #transition(
    life: Life,
    expected: SandboxStatus[],
    changes: SandboxChanges & { status: SandboxStatus },
    detail: string | null,
  ): Promise<SandboxRow | undefined> {
    const row = await persist(async (attempt) => {
      const changed = await this.#repository.transition(life.id, life.generation, expected, changes, detail);
      if (changed || attempt === 0) return changed;
      const now = await this.#repository.find(life.id);
      return now?.status === changes.status ? now : undefined;
    });
    if (row) {
      life.apply(row);
      this.#expiry.arm(life.id);
      this.#log.info({ sandbox: life.id, status: row.status, detail }, 'sandbox');
    }
    return row;
  }

  /** Destroys what the host has and nobody knows. */
  async #sweep(id: string): Promise<void> {
    this.#log.warn({ sandbox: id }, 'the host has a sandbox that nobody knows; destroying it');
    await this.#host.destroy(id);
  }

  #expired(id: string): void {
    const life = this.#lives.get(id);
    const detail = life?.status === 'failed' ? 'kept long enough' : 'its time was over';
    this.destroy(id, detail).catch((error: unknown) => {
      this.#log.warn({ sandbox: id, err: error }, 'an expired sandbox could not be destroyed yet');
      setTimeout(() => this.#lives.has(id) && this.#expired(id), 2_000).unref();
    });
  }

  #inBackground(task: Promise<unknown>): void {
    task.catch((error: unknown) => this.#log.warn({ err: error }, 'left to the reconciler'));
  }
}
