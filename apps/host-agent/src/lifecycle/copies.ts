/** Copies of sandboxes: snapshots with names, forks, and the checkpoints of a history. */
import {
  type HostFork,
  type HostForked,
  type HostImported,
  type HostSnapshotCreate,
  type HostSnapshotImport,
  type NewSnapshot,
  PerchError,
  type SandboxHistory,
  type Snapshot,
} from '@perch/protocol';
import { failpoint } from '../failpoints/index.ts';
import type { BootFiles, ImageStore } from '../images/index.ts';
import type { VmMonitor } from '../vmm/index.ts';
import { type FlattenDeps, flattenSnapshot } from './flatten.ts';
import { importSnapshot } from './import/index.ts';
import type { SandboxRecord } from './journal.ts';
import { sentence } from './life.ts';
import { exists, type Registry } from './registry.ts';
import type { StateStore } from './saved/index.ts';
import type { SnapshotStore } from './snapshot-store.ts';
import { type Source, sourceOf } from './sources.ts';
import type { Starts } from './starts.ts';
import { milliseconds } from './stopwatch.ts';

export interface CopyDeps extends FlattenDeps {
  images: ImageStore;
  snapshots: SnapshotStore;
  saved: StateStore;
  monitor: Pick<VmMonitor, 'machine'>;
  boot: BootFiles;
}

export class Copies {
  readonly #deps: CopyDeps;
  readonly #registry: Registry;
  readonly #starts: Starts;

  constructor(deps: CopyDeps, registry: Registry, starts: Starts) {
    this.#deps = deps;
    this.#registry = registry;
    this.#starts = starts;
  }

  /**
   * Makes children that go on from where the source is, or was at a checkpoint of its history; resolves once each of
   * them runs or failed.
   * @throws PerchError as SandboxDriver.copy; sandbox_not_found, sandbox_exists. There is no child then.
   */
  async fork(id: string, { generation, checkpoint, children }: HostFork): Promise<HostForked> {
    const driver = this.#registry.expect(id);
    for (const child of children) {
      if (this.#registry.find(child.id)) throw exists(child.id);
    }
    const { saved, snapshots } = this.#deps;
    const start = performance.now();
    let timings: Readonly<Record<string, number>> = {};
    await using scratch = await snapshots.scratch(async (to) => {
      await driver.copy(generation, {
        ...{ as: 'forking', checkpoint },
        take: async (taken, stages) => {
          timings = stages;
          await saved.copy(id, taken, to);
        },
      });
    });
    failpoint('fork.copied');
    const copied = milliseconds(start);
    const { record } = driver;
    if (!record) throw new PerchError('sandbox_not_found', `There is no sandbox ${id} any more.`, { id });
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
      const driver = await this.#starts.admit(id, source, { generation: 1, template });
      if (!driver) throw exists(id);
      await this.#starts.start(driver, source, 1, { accessToken: access_token });
      return { sandbox: this.#registry.get(id) };
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
    const { saved, snapshots } = this.#deps;
    const driver = this.#registry.expect(id);
    await this.#assertFree(name, overwrite);
    const start = performance.now();
    let timings: Readonly<Record<string, number>> = {};
    await snapshots.create(name, overwrite, (to) =>
      driver.copy(generation, {
        as: 'snapshotting',
        take: async (taken, stages) => {
          timings = stages;
          await saved.copy(id, taken, to);
        },
      }),
    );
    const { total: _, ...stages } = timings;
    return { ...(await snapshots.get(name)), timings_ms: { ...stages, total: milliseconds(start) } };
  }

  /**
   * Makes a snapshot with a name of a directory of this host, which is read only. For root alone.
   * @throws PerchError import_refused, snapshot_exists, capacity_exhausted, host_disk_full. There is nothing new
   *   then.
   */
  async import({ name, overwrite, ...request }: HostSnapshotImport): Promise<HostImported> {
    const { snapshots, monitor } = this.#deps;
    await this.#assertFree(name, overwrite);
    let assumed: HostImported['assumed'] = [];
    await snapshots.create(name, overwrite, async (to) => {
      assumed = await importSnapshot(request, to, { ...this.#deps, machine: monitor.machine });
    });
    return { snapshot: await snapshots.get(name), assumed };
  }

  async #assertFree(name: string, overwrite: boolean): Promise<void> {
    const { snapshots, images } = this.#deps;
    if (images.find(name)) {
      throw new PerchError('snapshot_exists', `${name} is an image.`, { name });
    }
    if (!overwrite) await snapshots.assertFree(name);
  }

  /** What sandboxes can be created from, by name. */
  list(): Promise<Snapshot[]> {
    return this.#starts.sources.list();
  }

  /** @throws PerchError snapshot_not_found, snapshot_damaged */
  describe(name: string): Promise<Snapshot> {
    return this.#starts.sources.describe(name);
  }

  /** @throws PerchError snapshot_not_found; snapshot_in_use for an image, which Perch itself needs */
  async remove(name: string): Promise<void> {
    const { snapshots, images } = this.#deps;
    if (images.find(name)) {
      throw new PerchError('snapshot_in_use', `${name} is an image, and Perch needs it.`, {
        name,
        by: 'perch',
      });
    }
    await snapshots.remove(name);
  }

  /**
   * Makes the disk of a snapshot one file that needs no image below it.
   * @throws PerchError snapshot_not_found, capacity_exhausted, host_disk_full
   */
  async flatten(name: string): Promise<Snapshot> {
    const { snapshots, images } = this.#deps;
    if (!images.find(name) && !(await snapshots.get(name)).standalone) {
      await snapshots.change(name, (from, to) => flattenSnapshot(from, to, this.#deps));
    }
    return this.#starts.sources.describe(name);
  }

  /** @throws PerchError sandbox_not_found */
  async history(id: string): Promise<SandboxHistory> {
    const { record, resources } = this.#registry.expect(id);
    const checkpoints = await this.#deps.saved.history(id);
    const all = record ? await resources.occupied(record) : { ownBytes: 0, sharedBytes: 0 };
    return {
      items: checkpoints.map(({ number, parent, kind, createdAt, occupied: { ownBytes, sharedBytes } }) => ({
        ...{ checkpoint: number, parent, kind, created_at: createdAt },
        ...{ size_bytes: ownBytes + sharedBytes, own_bytes: ownBytes, shared_bytes: sharedBytes },
      })),
      own_bytes: all.ownBytes,
      shared_bytes: all.sharedBytes,
    };
  }
}

function failedToStart(id: string, cause: unknown): PerchError {
  const reason = sentence(cause);
  return new PerchError(
    'sandbox_failed',
    `Sandbox ${id} did not start. ${reason}`,
    { id, reason },
    { cause },
  );
}
