/** The sandboxes of this host: a driver for each, and who is told of their changes. */
import { type HostSandbox, PerchError } from '@perch/protocol';
import type { NetworkLayer } from '../../network/index.ts';
import type { Journal, SandboxRecord, SandboxSpec } from '../journal/index.ts';
import type { SandboxDriver } from './driver.ts';

type Listener = (sandbox: HostSandbox) => void;

export interface RegistryDeps {
  journal: Journal;
  network: Pick<NetworkLayer, 'describe'>;
  /** @param changed told after every transition */
  newDriver: (id: string, changed: (record: SandboxRecord) => void) => SandboxDriver;
  /** A guest that stood ready has ended by itself. */
  lost: (id: string) => void;
}

export class Registry {
  readonly #deps: RegistryDeps;
  readonly #drivers = new Map<string, SandboxDriver>();
  readonly #listeners = new Set<Listener>();

  constructor(deps: RegistryDeps) {
    this.#deps = deps;
  }

  /** Makes drivers of what the journal has. */
  load(): SandboxRecord[] {
    const records = this.#deps.journal.list();
    for (const { id } of records) this.#add(id);
    return records;
  }

  insert(spec: SandboxSpec): SandboxDriver {
    return this.#enter(this.#deps.journal.insert(spec));
  }

  /** Makes a guest that stands ready the sandbox `id`. Undefined when it does not any more. */
  takeOver(
    ready: SandboxDriver,
    id: string,
    spec: Pick<SandboxSpec, 'generation' | 'template'>,
  ): SandboxDriver | undefined {
    const vm = ready.handOver();
    if (!vm) return undefined;
    this.#drivers.delete(ready.id);
    const driver = this.#enter(this.#deps.journal.takeOver(ready.id, id, spec));
    driver.resources.vm = vm;
    return driver;
  }

  find(id: string): SandboxDriver | undefined {
    return this.#drivers.get(id);
  }

  /** @throws PerchError sandbox_not_found */
  expect(id: string): SandboxDriver {
    const driver = this.#drivers.get(id);
    if (!driver) throw unknown(id);
    return driver;
  }

  all(): SandboxDriver[] {
    return [...this.#drivers.values()];
  }

  /** Without guests that only this host knows. */
  sandboxes(): SandboxRecord[] {
    return this.#deps.journal.list().filter(({ kind }) => kind === 'sandbox');
  }

  /** @throws PerchError sandbox_not_found */
  get(id: string): HostSandbox {
    const { record } = this.expect(id);
    if (!record) throw unknown(id);
    return this.view(record);
  }

  view(record: SandboxRecord): HostSandbox {
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

  /** Calls back after each change until the returned function is called. */
  watch(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #enter(record: SandboxRecord): SandboxDriver {
    const driver = this.#add(record.id);
    this.#changed(record);
    return driver;
  }

  #add(id: string): SandboxDriver {
    const driver = this.#deps.newDriver(id, (record) => this.#changed(record));
    this.#drivers.set(id, driver);
    return driver;
  }

  #changed(record: SandboxRecord): void {
    if (record.status === 'destroyed') this.#drivers.delete(record.id);
    if (record.kind === 'ready' && record.status === 'failed') this.#deps.lost(record.id);
    if (record.kind !== 'sandbox') return;
    const view = this.view(record);
    for (const listener of this.#listeners) listener(view);
  }
}

export function exists(id: string): PerchError {
  return new PerchError('sandbox_exists', `There is another sandbox ${id}.`, { id });
}

function unknown(id: string): PerchError {
  return new PerchError('sandbox_not_found', `There is no sandbox ${id}.`, { id });
}
