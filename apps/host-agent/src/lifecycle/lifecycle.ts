/** All sandboxes of this host. */
import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import {
  type HostCreate,
  type HostFork,
  type HostForked,
  type HostResume,
  type HostSandbox,
  type HostSnapshotCreate,
  limits,
  type NewSnapshot,
  newSandboxId,
  PerchError,
  type SandboxHistory,
  type Snapshot,
} from '@perch/protocol';
import type { Logger } from 'pino';
import { failpoint } from '../failpoints/index.ts';
import type { SnapshotDirectory } from '../snapshot/index.ts';
import type { BaseTemplate, TemplateStore } from '../template/index.ts';
import type { Admission, Capacity } from './admission.ts';
import { SandboxDriver } from './driver.ts';
import { flattenSnapshot } from './flatten.ts';
import type { Journal, SandboxRecord, SandboxSpec } from './journal.ts';
import { ReadyPool } from './ready-pool.ts';
import { type Origin, type ResourceDeps, Resources } from './resources.ts';
import { startPoint } from './saved/index.ts';
import type { SnapshotStore } from './snapshot-store.ts';
import { type Source, Sources, sourceOf } from './sources.ts';
import { milliseconds } from './stopwatch.ts';
import { sweepUnowned } from './sweep.ts';
import type { WarmShape, WarmTemplates } from './warm-templates.ts';

export interface LifecycleDeps extends ResourceDeps {
  journal: Journal;
  templates: TemplateStore;
  admission: Admission;
  warm: Pick<WarmTemplates, 'start' | 'get'>;
  snapshots: SnapshotStore;
  /** Guests of the default shape that stand ready. */
  readyGuests: number;
  log: Logger;
}

type Listener = (sandbox: HostSandbox) => void;

/** What a guest must have in common with what is asked for. */
const shapeFields = ['base', 'kernel', 'initramfs', 'vcpus', 'memory_mb', 'disk_mb'] as const;

/** What makes a create the same as one before; secrets are in no record. */
const shape = ['generation', 'template', 'vcpus', 'memory_mb', 'disk_mb'] as const;

/** What a create asks for that says nothing else. */
const defaultRequest = {
  template: 'base',
  vcpus: limits.vcpus.default,
  memory_mb: limits.memoryMb.default,
  disk_mb: limits.diskMb.default,
};

const poolTimes = { quietMs: 300, againMs: 10_000 };

const teardownRetryMs = [200, 1000, 5000, 30_000];

export class Lifecycle {
  readonly #deps: LifecycleDeps;
  readonly #sources: Sources;
  readonly #pool: ReadyPool;
  readonly #drivers = new Map<string, SandboxDriver>();
  readonly #listeners = new Set<Listener>();
  /** Admissions look at what is held and then add to it: one at a time. */
  #admitting: Promise<unknown> = Promise.resolve();

  constructor(deps: LifecycleDeps) {
    this.#deps = deps;
    this.#sources = new Sources(deps, (template, shape, keep) => this.#bootTemplate(template, shape, keep));
    this.#pool = new ReadyPool({
      size: deps.readyGuests,
      make: () => this.#makeReady(),
      ...poolTimes,
      log: deps.log,
    });
  }

  /**
   * Brings journal and machine together again: adopts what lives, finishes or undoes what was half done,
   * removes what nobody owns. The network layer starts in the middle of it, knowing which slots are in use.
   */
  async start(): Promise<void> {
    const { journal, network, monitor, saved, snapshots, warm, templates, vmsDir, log } = this.#deps;
    await mkdir(vmsDir, { recursive: true, mode: 0o700 });
    const records = journal.list();
    for (const { id } of records) this.#drivers.set(id, this.#driver(id));
    const machines = new Set(records.map(({ vm }) => vm));
    const owned = new Set(this.#drivers.keys());
    const swept = [...(await sweepUnowned(vmsDir, machines)), ...(await saved.start(owned))];
    await snapshots.start();
    await monitor.sweep(machines);
    if (swept.length > 0) log.warn({ sandboxes: swept }, 'removed what no journal entry owns');
    for (const driver of this.#drivers.values()) await driver.recover();
    await network.start(journal.list().flatMap(({ slot }) => (slot === null ? [] : [slot])));
    for (const driver of this.#drivers.values()) await driver.finishRecovery();
    const { kernelId: kernel, initramfsId: initramfs } = this.#deps.boot;
    await warm.start((base) => (templates.rootfsOf(base) ? { kernel, initramfs } : undefined));
    // Whoever wanted it has gone.
    for (const { id, kind } of journal.list()) if (kind !== 'sandbox') await this.#expect(id).destroy();
    if (this.#deps.readyGuests > 0) this.#pool.start();
  }

  /**
   * Creates a sandbox and resolves once it runs. The same id and shape again gives the same sandbox.
   * @throws PerchError sandbox_exists, template_not_found, disk_too_small, shape_mismatch, snapshot_damaged,
   *   capacity_exhausted, sandbox_failed
   */
  async create(id: string, request: HostCreate): Promise<HostSandbox> {
    const known = this.#drivers.get(id);
    if (known) return this.#repeated(known, request);
    const source = await this.#sources.find(request);
    const driver = await this.#admit(id, source, request);
    if (!driver) return this.#repeated(this.#expect(id), request);
    const secrets = { accessToken: request.access_token, env: request.env };
    await driver.create(request.generation, () => this.#origin(driver, source), secrets);
    return this.get(id);
  }

  /** Finds room for a sandbox and enters it. Undefined when there is one of this id. @throws capacity_exhausted */
  #admit(
    id: string,
    source: Source,
    { generation, template }: Pick<SandboxSpec, 'generation' | 'template'>,
  ): Promise<SandboxDriver | undefined> {
    const { admission } = this.#deps;
    return this.#alone(async () => {
      if (this.#drivers.has(id)) return undefined;
      const held = this.#held();
      await admission.admit(source.shape, held, await this.#occupied());
      if (source.pooled) {
        const taken = this.#takeReady(id, source.shape, { generation, template });
        if (taken) return taken;
      }
      await this.#makeRoom(source.shape);
      return this.#insert({ ...source.shape, id, kind: 'sandbox', generation, template });
    });
  }

  /** Makes a guest of this shape that stands ready the sandbox `id`. Undefined when there is none. */
  #takeReady(
    id: string,
    shape: WarmShape,
    spec: Pick<SandboxSpec, 'generation' | 'template'>,
  ): SandboxDriver | undefined {
    this.#pool.quiet();
    const ready = this.#pool.take(({ record }) =>
      shapeFields.every((field) => record?.[field] === shape[field]),
    );
    const vm = ready?.handOver();
    if (!ready || !vm) return undefined;
    this.#drivers.delete(ready.id);
    const record = this.#deps.journal.takeOver(ready.id, id, spec);
    const driver = this.#driver(id);
    driver.resources.vm = vm;
    this.#drivers.set(id, driver);
    this.#changed(record);
    return driver;
  }

  /** Guests that stand ready are not counted as held, and go when their memory is needed. */
  async #makeRoom(shape: Pick<WarmShape, 'memory_mb' | 'disk_mb'>): Promise<void> {
    const { admission, journal } = this.#deps;
    const all = journal.list().filter(({ kind }) => kind !== 'template');
    if (admission.fitsMemory(shape, all)) return;
    await this.#pool.giveWay();
  }

  /** Makes a guest that stands ready, where there is room for it. */
  async #makeReady(): Promise<SandboxDriver | undefined> {
    const { admission, journal } = this.#deps;
    const source = await this.#sources.find(defaultRequest);
    const all = journal.list().filter(({ kind }) => kind !== 'template');
    if (!admission.fitsMemory(source.shape, all)) return undefined;
    const id = newSandboxId();
    const { template } = defaultRequest;
    const driver = this.#insert({ ...source.shape, id, kind: 'ready', generation: 1, template });
    try {
      const accessToken = randomBytes(32).toString('hex');
      await driver.create(1, () => this.#origin(driver, source), { accessToken, env: {} });
      const { record } = driver;
      if (record?.status !== 'running') throw new Error(record?.reason ?? 'It is gone.');
      await driver.resources.standReady(record, accessToken);
      return driver;
    } catch (error) {
      await driver.destroy();
      throw error;
    }
  }

  /** A sandbox keeps links of its own of all files that it starts from. */
  async #origin({ id, record, resources }: SandboxDriver, source: Source): Promise<Origin> {
    const { journal, saved } = this.#deps;
    if (record && record.vm !== id && record.identity && resources.vm) {
      await saved.moveAll(record.vm, id);
      return { kind: 'ready', vm: resources.vm, identity: record.identity };
    }
    await source.begin(id);
    failpoint('create.begun');
    journal.setSnapshot(id, startPoint);
    return { kind: 'snapshot', snapshot: await saved.open(id, startPoint) };
  }

  /**
   * Makes children that go on from where the source is, or was at a point of its history; resolves once each of
   * them runs or failed.
   * @throws PerchError as SandboxDriver.copy; sandbox_not_found, sandbox_exists. There is no child then.
   */
  async fork(id: string, { generation, from, children }: HostFork): Promise<HostForked> {
    const driver = this.#expect(id);
    for (const child of children) {
      if (this.#drivers.has(child.id)) throw exists(child.id);
    }
    const { saved, snapshots } = this.#deps;
    const start = performance.now();
    let timings: Readonly<Record<string, number>> = {};
    await using scratch = await snapshots.scratch(async (to) => {
      await driver.copy(generation, {
        ...{ as: 'forking', from },
        take: async (point, stages) => {
          timings = stages;
          await saved.copy(id, point, to);
        },
      });
    });
    failpoint('fork.copied');
    const copied = milliseconds(start);
    const { record } = driver;
    if (!record) throw unknown(id);
    const source = sourceOf(record, scratch.directory, saved);
    const results = await Promise.all(children.map((child) => this.#child(child, record, source)));
    const { total: _, ...stages } = timings;
    return { results, timings_ms: { ...stages, copied, total: milliseconds(start) } };
  }

  async #child(
    { id, access_token }: HostFork['children'][number],
    { template }: SandboxRecord,
    source: Source,
  ): Promise<HostForked['results'][number]> {
    try {
      const driver = await this.#admit(id, source, { generation: 1, template });
      if (!driver) throw exists(id);
      await driver.create(1, () => this.#origin(driver, source), { accessToken: access_token });
      return { sandbox: this.get(id) };
    } catch (cause) {
      const error = cause instanceof PerchError ? cause : failedToStart(id, cause);
      return { id, error: error.toBody().error };
    }
  }

  /**
   * Makes a snapshot with a name of a sandbox, which is as before.
   * @throws PerchError as SandboxDriver.copy; sandbox_not_found, snapshot_exists
   */
  async snapshot({ name, sandbox_id: id, generation, overwrite }: HostSnapshotCreate): Promise<NewSnapshot> {
    const { saved, snapshots, templates } = this.#deps;
    const driver = this.#expect(id);
    if (templates.find(name)) {
      throw new PerchError('snapshot_exists', `${name} is an image.`, { name });
    }
    if (!overwrite) await snapshots.assertFree(name);
    const start = performance.now();
    let timings: Readonly<Record<string, number>> = {};
    await snapshots.create(name, overwrite, (to) =>
      driver.copy(generation, {
        as: 'snapshotting',
        take: async (point, stages) => {
          timings = stages;
          await saved.copy(id, point, to);
        },
      }),
    );
    const { total: _, ...stages } = timings;
    return { ...(await snapshots.get(name)), timings_ms: { ...stages, total: milliseconds(start) } };
  }

  /** What sandboxes can be created from, by name. */
  snapshots(): Promise<Snapshot[]> {
    return this.#sources.list();
  }

  /** @throws PerchError snapshot_not_found, snapshot_damaged */
  describeSnapshot(name: string): Promise<Snapshot> {
    return this.#sources.describe(name);
  }

  /** @throws PerchError snapshot_not_found; snapshot_in_use for an image, which Perch itself needs */
  async removeSnapshot(name: string): Promise<void> {
    const { snapshots, templates } = this.#deps;
    if (templates.find(name)) {
      throw new PerchError('snapshot_in_use', `${name} is an image, and Perch needs it.`, {
        name,
        by: 'perch',
      });
    }
    await snapshots.remove(name);
  }

  /** Makes the disk of a snapshot one file that needs no image below it. @throws PerchError snapshot_not_found */
  async flattenSnapshot(name: string): Promise<Snapshot> {
    const { snapshots, templates } = this.#deps;
    if (!templates.find(name) && !(await snapshots.get(name)).standalone) {
      await snapshots.change(name, (from, to) => flattenSnapshot(from, to, this.#deps));
    }
    return this.#sources.describe(name);
  }

  /** @throws PerchError sandbox_not_found */
  async history(id: string): Promise<SandboxHistory> {
    const { record, resources } = this.#expect(id);
    const points = await this.#deps.saved.history(id);
    const sum = (of: 'ownBytes' | 'sharedBytes') =>
      points.reduce((total, { occupied }) => total + occupied[of], 0);
    return {
      items: points.map(({ number, parent, kind, createdAt, occupied: { ownBytes, sharedBytes } }) => ({
        ...{ generation: number, parent, kind, created_at: createdAt },
        ...{ size_bytes: ownBytes + sharedBytes, own_bytes: ownBytes, shared_bytes: sharedBytes },
      })),
      own_bytes: record ? await resources.occupied(record) : 0,
      shared_bytes: sum('sharedBytes'),
    };
  }

  /**
   * Boots a guest from power-on, as a sandbox that nobody else sees, and has `keep` take its snapshot. Room for
   * it is what the sandbox that waits for it has reserved.
   */
  async #bootTemplate(
    template: BaseTemplate,
    shape: WarmShape,
    keep: (snapshot: SnapshotDirectory) => Promise<void>,
  ): Promise<void> {
    const id = newSandboxId();
    const driver = this.#insert({ ...shape, id, kind: 'template', generation: 1, template: template.name });
    try {
      const accessToken = randomBytes(32).toString('hex');
      await driver.create(1, async () => ({ kind: 'template', template }), { accessToken, env: {} });
      await driver.pause(1);
      failpoint('template.paused');
      await keep(this.#deps.saved.directory(id, 1));
      failpoint('template.kept');
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`No guest of this shape could be prepared. ${why}`, { cause });
    } finally {
      await driver.destroy();
    }
  }

  #insert(spec: SandboxSpec): SandboxDriver {
    const record = this.#deps.journal.insert(spec);
    const driver = this.#driver(spec.id);
    this.#drivers.set(spec.id, driver);
    this.#changed(record);
    return driver;
  }

  /** The answer to a create that was asked for before. */
  async #repeated(driver: SandboxDriver, request: HostCreate): Promise<HostSandbox> {
    const { id, record } = driver;
    const same = record && shape.every((field) => record[field] === request[field]);
    if (!same) throw exists(id);
    await driver.started;
    const sandbox = this.get(id);
    if (sandbox.status === 'running') return sandbox;
    const reason = sandbox.reason ?? `It is ${sandbox.status}.`;
    throw new PerchError('sandbox_failed', `Sandbox ${id} does not run. ${reason}`, { id, reason });
  }

  /** As SandboxDriver.pause. @throws PerchError sandbox_not_found too */
  async pause(id: string, generation: number): Promise<HostSandbox> {
    await this.#expect(id).pause(generation);
    return this.get(id);
  }

  /** As SandboxDriver.resume. @throws PerchError sandbox_not_found too */
  async resume(id: string, request: HostResume): Promise<HostSandbox> {
    await this.#expect(id).resume(request.generation, request.access_token, request.from);
    return this.get(id);
  }

  /** @throws PerchError sandbox_not_found */
  async destroy(id: string): Promise<void> {
    await this.#expect(id).destroy();
  }

  async destroyAll(): Promise<void> {
    await this.#pool.stop();
    await Promise.all([...this.#drivers.values()].map((driver) => driver.destroy()));
  }

  /** @throws PerchError sandbox_not_found */
  get(id: string): HostSandbox {
    const record = this.#expect(id).record;
    if (!record) throw unknown(id);
    return this.#view(record);
  }

  list(): HostSandbox[] {
    return this.#sandboxes().map((record) => this.#view(record));
  }

  /** Bytes that the guest wrote to its console, the last of them. @throws PerchError sandbox_not_found */
  async console(id: string): Promise<Buffer> {
    return this.#expect(id).resources.console();
  }

  /** Calls back after each change until the returned function is called. */
  watch(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async capacity(): Promise<{ memory: Capacity; disk: Capacity }> {
    const held = this.#held();
    const { admission } = this.#deps;
    return { memory: admission.memory(held), disk: await admission.disk(held, await this.#occupied()) };
  }

  /** Lets go of all sandboxes, which run on. Guests that stand ready go. */
  async stop(): Promise<void> {
    await this.#pool.stop();
    await this.letGo();
  }

  /** Lets go of all there is, as it is. */
  async letGo(): Promise<void> {
    this.#pool.halt();
    await Promise.allSettled([...this.#drivers.values()].map((driver) => driver.stop()));
  }

  #driver(id: string): SandboxDriver {
    const { journal, log } = this.#deps;
    const changed = (record: SandboxRecord) => this.#changed(record);
    return new SandboxDriver(id, new Resources(this.#deps), {
      journal,
      log,
      changed,
      retryMs: teardownRetryMs,
      admitAgain: (record, work) =>
        this.#alone(async () => {
          this.#deps.admission.admitMemory(record, this.#held());
          await this.#makeRoom(record);
          work();
        }),
    });
  }

  #changed(record: SandboxRecord): void {
    if (record.status === 'destroyed') this.#drivers.delete(record.id);
    if (record.kind === 'ready' && record.status === 'failed') {
      this.#pool.lost(record.id);
    }
    if (record.kind !== 'sandbox') return;
    const view = this.#view(record);
    for (const listener of this.#listeners) listener(view);
  }

  /** A failed sandbox whose teardown is done holds nothing. */
  #held(): SandboxRecord[] {
    return this.#sandboxes().filter((record) => record.status !== 'failed' || record.slot !== null);
  }

  #sandboxes(): SandboxRecord[] {
    return this.#deps.journal.list().filter(({ kind }) => kind === 'sandbox');
  }

  async #occupied(): Promise<number> {
    const each = await Promise.all(
      [...this.#drivers.values()].map(async ({ record, resources }) =>
        record ? resources.occupied(record) : 0,
      ),
    );
    return each.reduce((sum, bytes) => sum + bytes, 0);
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#admitting.then(work);
    this.#admitting = result.catch(() => {});
    return result;
  }

  #expect(id: string): SandboxDriver {
    const driver = this.#drivers.get(id);
    if (!driver) throw unknown(id);
    return driver;
  }

  #view(record: SandboxRecord): HostSandbox {
    const { id, generation, status, reason, template, vcpus, memory_mb, disk_mb, changed_at, timings_ms } =
      record;
    return {
      id,
      generation,
      status,
      ...(reason === null ? {} : { reason }),
      template,
      vcpus,
      memory_mb,
      disk_mb,
      address: record.slot === null ? null : this.#deps.network.describe(record.slot).address,
      changed_at,
      timings_ms,
    };
  }
}

function exists(id: string): PerchError {
  return new PerchError('sandbox_exists', `There is another sandbox ${id}.`, { id });
}

function failedToStart(id: string, cause: unknown): PerchError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new PerchError(
    'sandbox_failed',
    `Sandbox ${id} did not start. ${reason}`,
    { id, reason },
    { cause },
  );
}

function unknown(id: string): PerchError {
  return new PerchError('sandbox_not_found', `There is no sandbox ${id}.`, { id });
}
