/** All sandboxes of this host. */
import { mkdir } from 'node:fs/promises';
import { type HostCreate, type HostSandbox, PerchError } from '@perch/protocol';
import type { Logger } from 'pino';
import type { TemplateStore } from '../template/index.ts';
import type { Admission, Capacity } from './admission.ts';
import { SandboxDriver } from './driver.ts';
import type { Journal, SandboxRecord, SandboxSpec } from './journal.ts';
import { type ResourceDeps, Resources } from './resources.ts';
import { sweepUnowned } from './sweep.ts';

export interface LifecycleDeps extends ResourceDeps {
  journal: Journal;
  templates: TemplateStore;
  admission: Admission;
  log: Logger;
}

type Listener = (sandbox: HostSandbox) => void;

/** What makes a create the same as one before; secrets are in no record. */
const shape = ['generation', 'template', 'vcpus', 'memory_mb', 'disk_mb'] as const;

const teardownRetryMs = [200, 1000, 5000, 30_000];

export class Lifecycle {
  readonly #deps: LifecycleDeps;
  readonly #drivers = new Map<string, SandboxDriver>();
  readonly #listeners = new Set<Listener>();
  /** Admissions look at what is held and then add to it: one at a time. */
  #admitting: Promise<unknown> = Promise.resolve();

  constructor(deps: LifecycleDeps) {
    this.#deps = deps;
  }

  /**
   * Brings journal and machine together again: adopts what lives, finishes or undoes what was half done,
   * removes what nobody owns. The network layer starts in the middle of it, knowing which slots are in use.
   */
  async start(): Promise<void> {
    const { journal, network, monitor, vmsDir, log } = this.#deps;
    await mkdir(vmsDir, { recursive: true, mode: 0o700 });
    const records = journal.list();
    for (const { id } of records) this.#drivers.set(id, this.#driver(id));
    const owned = new Set(this.#drivers.keys());
    const swept = await sweepUnowned(vmsDir, owned);
    await monitor.sweep(owned);
    if (swept.length > 0) log.warn({ sandboxes: swept }, 'removed what no journal entry owns');
    for (const driver of this.#drivers.values()) await driver.recover();
    await network.start(journal.list().flatMap(({ slot }) => (slot === null ? [] : [slot])));
    for (const driver of this.#drivers.values()) await driver.finishRecovery();
  }

  /**
   * Creates a sandbox and resolves once it runs. The same id and shape again gives the same sandbox.
   * @throws PerchError sandbox_exists, template_not_found, disk_too_small, capacity_exhausted, sandbox_failed
   */
  async create(id: string, request: HostCreate): Promise<HostSandbox> {
    const { templates, journal, admission } = this.#deps;
    const template = templates.get(request.template);
    const minimum_mb = Math.ceil(template.sizeBytes / 2 ** 20);
    if (request.disk_mb < minimum_mb) {
      throw new PerchError(
        'disk_too_small',
        `The template ${template.name} needs a disk of ${minimum_mb} MiB or more, and disk_mb is ${request.disk_mb}.`,
        { disk_mb: request.disk_mb, minimum_mb },
      );
    }
    const driver = await this.#alone(async () => {
      if (this.#drivers.has(id)) return undefined;
      await admission.admit(request, this.#held(), await this.#occupied());
      const { generation, vcpus, memory_mb, disk_mb } = request;
      const spec: SandboxSpec = { id, generation, template: template.name, vcpus, memory_mb, disk_mb };
      const record = journal.insert(spec);
      const made = this.#driver(id);
      this.#drivers.set(id, made);
      this.#changed(record);
      return made;
    });
    if (!driver) return this.#repeated(this.#expect(id), request);
    await driver.create(request.generation, template, {
      accessToken: request.access_token,
      env: request.env,
    });
    return this.get(id);
  }

  /** The answer to a create that was asked for before. */
  async #repeated(driver: SandboxDriver, request: HostCreate): Promise<HostSandbox> {
    const { id, record } = driver;
    const same = record && shape.every((field) => record[field] === request[field]);
    if (!same) throw new PerchError('sandbox_exists', `There is another sandbox ${id}.`, { id });
    await driver.started;
    const sandbox = this.get(id);
    if (sandbox.status === 'running') return sandbox;
    const reason = sandbox.reason ?? `It is ${sandbox.status}.`;
    throw new PerchError('sandbox_failed', `Sandbox ${id} does not run. ${reason}`, { id, reason });
  }

  /** @throws PerchError sandbox_not_found */
  async destroy(id: string): Promise<void> {
    await this.#expect(id).destroy();
  }

  async destroyAll(): Promise<void> {
    await Promise.all([...this.#drivers.values()].map((driver) => driver.destroy()));
  }

  /** @throws PerchError sandbox_not_found */
  get(id: string): HostSandbox {
    const record = this.#expect(id).record;
    if (!record) throw unknown(id);
    return this.#view(record);
  }

  list(): HostSandbox[] {
    return this.#deps.journal.list().map((record) => this.#view(record));
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

  /** Lets go of all sandboxes, which run on. */
  async stop(): Promise<void> {
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
    });
  }

  #changed(record: SandboxRecord): void {
    if (record.status === 'destroyed') this.#drivers.delete(record.id);
    const view = this.#view(record);
    for (const listener of this.#listeners) listener(view);
  }

  /** A failed sandbox whose teardown is done holds nothing. */
  #held(): SandboxRecord[] {
    return this.#deps.journal.list().filter((record) => record.status !== 'failed' || record.slot !== null);
  }

  async #occupied(): Promise<number> {
    const each = await Promise.all(
      [...this.#drivers.values()].map(({ id, resources }) => resources.occupied(id)),
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

function unknown(id: string): PerchError {
  return new PerchError('sandbox_not_found', `There is no sandbox ${id}.`, { id });
}
