/**
 * The life of sandboxes as perchd sees it:
 *
 *     create ─▶ creating ─▶ running ◀─▶ pausing ─▶ paused ◀─▶ resuming ─▶ running (next generation)
 *
 *     running, paused ─▶ copied by a snapshot or a fork, and the same afterwards
 *
 *     any of them ─▶ failed ─▶ destroying ─▶ destroyed, or without failing
 *
 * perchd is the only writer of its database. A row is written before the host is asked for anything, each write
 * names the status and the generation it expects, and the reconciler finishes what a crash left half done.
 */

import type { CreateSandbox, HostSandbox, NewSnapshot, SandboxHistory, SandboxStatus } from '@perch/protocol';
import type { Logger } from 'pino';
import type { SandboxRow } from '../database/index.ts';
import type { Hosts } from '../hosts/index.ts';
import type { Metrics } from '../metrics/index.ts';
import type { ActivityTracker } from './activity.ts';
import { Copier, type ForkRequest, type SnapshotRequest } from './copies.ts';
import { type CreateContext, Creator } from './create.ts';
import { Destroyer } from './destroy.ts';
import type { Idempotency } from './idempotency.ts';
import type { Life } from './life.ts';
import { Lives } from './lives.ts';
import { Observer } from './observe.ts';
import { type Forked, Operations, type Transitioned } from './operations.ts';
import { type PauseRequest, Pauser } from './pause.ts';
import { Ready, type ReadyRequest } from './ready.ts';
import type { ListFilter, SandboxEvent, SandboxPage, SandboxRepository } from './repository.ts';
import { type ResumeRequest, Resumer } from './resume.ts';
import { type LastCommand, TimeUp } from './time-up.ts';

interface Dependencies {
  repository: SandboxRepository;
  idempotency: Idempotency;
  activity: ActivityTracker;
  hosts: Hosts;
  metrics: Pick<Metrics, 'transition'>;
  lastCommand: LastCommand;
  log: Logger;
}

/** How long a destroyed sandbox is remembered. */
const destroyedKeptMs = 7 * 24 * 3600 * 1000;

/** Puts the parts together, and is what the rest of perchd calls. */
export class SandboxService implements Disposable {
  readonly #dependencies: Dependencies;
  readonly #lives: Lives;
  readonly #destroyer: Destroyer;
  readonly #creator: Creator;
  readonly #pauser: Pauser;
  readonly #resumer: Resumer;
  readonly #copier: Copier;
  readonly #ready: Ready;
  readonly #observer: Observer;

  constructor(dependencies: Dependencies) {
    const { repository, log } = dependencies;
    const operations = new Operations((hostId, told) =>
      this.observed(hostId, told).catch((error: unknown) =>
        log.warn({ sandbox: told.id, err: error }, 'left to the next comparison'),
      ),
    );
    const lives = new Lives(repository, log, (id) => timeUp.expired(id));
    const parts = { ...dependencies, lives, operations };
    const destroyer = new Destroyer(parts);
    const creator = new Creator({ ...parts, destroyer });
    const pauser = new Pauser({ ...parts, destroyer });
    const resumer = new Resumer({ ...parts, destroyer, pauser });
    const timeUp = new TimeUp({
      ...parts,
      destroy: (id, detail) => destroyer.destroy(id, detail),
      pause: ({ id, pauseMemory: memory }, detail) => pauser.pause(id, detail, undefined, { memory }),
    });
    this.#dependencies = dependencies;
    this.#lives = lives;
    this.#destroyer = destroyer;
    this.#creator = creator;
    this.#pauser = pauser;
    this.#resumer = resumer;
    this.#copier = new Copier({ ...parts, destroyer, creator });
    this.#ready = new Ready({ ...parts, resumer });
    this.#observer = new Observer({ ...parts, destroyer, creator, pauser, resumer });
  }

  /** Takes over what the database holds. */
  load(): Promise<void> {
    return this.#lives.load();
  }

  /** Creates one, or gives that of its idempotency key. */
  async create(request: CreateSandbox, context: CreateContext): Promise<SandboxRow> {
    return this.now(await this.#creator.create(request, context));
  }

  /** As it is now. @throws PerchError sandbox_not_found */
  async get(id: string): Promise<SandboxRow> {
    return this.now(await this.row(id));
  }

  /** As the database holds it. @throws PerchError sandbox_not_found */
  row(id: string): Promise<SandboxRow> {
    return this.#lives.row(id);
  }

  /** Its life as it is in memory, whatever its status; undefined when it is destroyed or never was. */
  life(id: string): Life | undefined {
    return this.#lives.get(id);
  }

  /** All of them that are not destroyed. */
  lives(): Life[] {
    return this.#lives.all();
  }

  list(filter: ListFilter): Promise<SandboxPage> {
    return this.#dependencies.repository.list(filter);
  }

  /** With what the database does not hold: that it is being copied, and activity that is not written yet. */
  now(row: SandboxRow): SandboxRow {
    const { id, status, generation } = row;
    const life = this.#lives.get(id);
    const copying = status === 'running' ? this.#copier.status(id) : undefined;
    if (life?.status !== status || life.generation !== generation)
      return copying ? { ...row, status: copying } : row;
    return {
      ...row,
      status: copying ?? status,
      last_active_at: life.lastActiveAt ?? row.last_active_at,
      expires_at: life.expiresAt ?? row.expires_at,
    };
  }

  /** The running life that a command or a transfer needs, resumed if it is paused and may be. */
  ready(id: string, requestId: string, how?: ReadyRequest): Promise<Life> {
    return this.#ready.ready(id, requestId, how);
  }

  /** Resolves when it is paused. It is, whether or not somebody waits. */
  async pause(id: string, requestId: string, how?: PauseRequest): Promise<Transitioned> {
    return this.#nowOf(await this.#pauser.pause(id, 'asked for', requestId, how));
  }

  /** Resolves when it runs. It does, whether or not somebody waits. */
  async resume(id: string, requestId: string, how?: ResumeRequest): Promise<Transitioned> {
    return this.#nowOf(await this.#resumer.resume(id, 'asked for', requestId, how));
  }

  /** Resolves when the snapshot is there; the sandbox is as before. */
  snapshot(id: string, request: SnapshotRequest, requestId: string): Promise<NewSnapshot> {
    return this.#copier.snapshot(id, request, requestId);
  }

  /** Resolves when each child runs or failed; the source is as before. */
  async fork(id: string, request: ForkRequest, context: CreateContext): Promise<Forked> {
    const { children, timings } = await this.#copier.fork(id, request, context);
    return { children: children.map((child) => (child instanceof Error ? child : this.now(child))), timings };
  }

  /** The history of a sandbox. */
  async history(id: string, requestId: string): Promise<SandboxHistory> {
    const { status, host_id } = await this.#lives.row(id);
    if (status === 'destroyed') return { items: [], own_bytes: 0, shared_bytes: 0 };
    return this.#dependencies.hosts.of(host_id).history(id, requestId);
  }

  /** Resolves when the sandbox is gone; also when it was. */
  destroy(id: string, detail: string, requestId?: string): Promise<void> {
    return this.#destroyer.destroy(id, detail, requestId);
  }

  /**
   * Runs it for at least so long from now, and resumes it first if it is paused. The end of its time never comes nearer.
   * @param memory as ReadyRequest
   */
  async connect(id: string, timeoutSec: number, requestId: string, memory = true): Promise<SandboxRow> {
    const life = await this.#ready.ready(id, requestId, { always: true, timeoutSec, memory });
    const left = (life.expiresAt?.getTime() ?? 0) - Date.now();
    if (left < timeoutSec * 1000) await this.setTimeout(id, timeoutSec);
    return this.row(id);
  }

  /** @param timeoutSec from now; 0 ends it at once */
  async setTimeout(id: string, timeoutSec: number): Promise<SandboxRow> {
    const { repository, activity } = this.#dependencies;
    const life = await this.#ready.running(id);
    const expiresAt = new Date(Date.now() + timeoutSec * 1000);
    const row = await repository.setTimeout(id, life.generation, Math.max(1, timeoutSec), expiresAt);
    if (!row) throw (this.#lives.get(id) ?? life).refusal();
    life.timeoutSec = row.timeout_sec;
    life.expiresAt = expiresAt;
    life.forgetTries();
    // A batch of activity that was under way may have written the older end after this one.
    activity.changed(life);
    this.#lives.arm(id);
    return this.now(row);
  }

  async logs(id: string, requestId: string): Promise<{ events: SandboxEvent[]; console: Buffer }> {
    const { repository, hosts } = this.#dependencies;
    const { status, host_id } = await this.#lives.row(id);
    const console = status === 'destroyed' ? Buffer.alloc(0) : await hosts.of(host_id).console(id, requestId);
    return { events: await repository.events(id), console };
  }

  /** Counts as use of the sandbox until it is disposed of. */
  hold(life: Life): Disposable {
    const held = this.#dependencies.activity.hold(life);
    // A sandbox that could not be paused in the end has no timer until it is used again.
    this.#lives.watch(life.id);
    return held;
  }

  counts(): Map<SandboxStatus, number> {
    const counts = new Map<SandboxStatus, number>();
    for (const { status } of this.#lives.all()) counts.set(status, (counts.get(status) ?? 0) + 1);
    return counts;
  }

  /** Sandboxes of a host that nothing in this process works on; what its reconciler may judge. */
  settled(hostId: string): Life[] {
    return this.#observer.settled(hostId);
  }

  /** Whether a pause or a resume on a host is left half-way, by a crash or without an answer. */
  unsettled(hostId: string): boolean {
    return this.#observer.unsettled(hostId);
  }

  /** A host's word on one sandbox. */
  observed(hostId: string, seen: HostSandbox): Promise<void> {
    return this.#observer.observed(hostId, seen);
  }

  /** Its host has it no more. */
  missing(life: Life): Promise<void> {
    return this.#observer.missing(life);
  }

  /** Forgets what was destroyed a week ago. */
  async purge(): Promise<void> {
    const { repository, idempotency } = this.#dependencies;
    await repository.purgeDestroyed(new Date(Date.now() - destroyedKeptMs));
    await idempotency.purge();
  }

  [Symbol.dispose](): void {
    this.#lives[Symbol.dispose]();
  }

  #nowOf({ row, timings }: Transitioned): Transitioned {
    return { row: this.now(row), timings };
  }
}
