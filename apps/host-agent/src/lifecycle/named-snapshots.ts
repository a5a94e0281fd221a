/** Snapshots with names: made of sandboxes or of directories, listed, flattened, converted and removed. */
import {
  type HostImported,
  type HostMachine,
  type HostSnapshotCreate,
  type HostSnapshotImport,
  type LayerFormat,
  type NewSnapshot,
  PerchError,
  type Snapshot,
} from '@perch/protocol';
import type { BootFiles, ImageStore } from '../images/index.ts';
import type { VmMonitor } from '../vmm/index.ts';
import {
  type Conversions,
  type FlattenDeps,
  flattenSnapshot,
  importSnapshot,
  type SnapshotStore,
  type StateStore,
} from './checkpoints/index.ts';
import { type DiskRoom, milliseconds } from './journal/index.ts';
import type { Registry } from './sandbox/index.ts';
import type { Sources } from './start/index.ts';

export interface NamedSnapshotDeps extends FlattenDeps {
  images: ImageStore;
  snapshots: SnapshotStore;
  saved: StateStore;
  machine: HostMachine;
  room: DiskRoom;
  monitor: Pick<VmMonitor, 'recognises'>;
  boot: BootFiles;
  /** A snapshot of this name is another by now, or gone: whoever holds files of the one before lets go of them. */
  changed: (name: string) => Promise<void>;
}

export class NamedSnapshots {
  readonly #deps: NamedSnapshotDeps;
  readonly #registry: Registry;
  readonly #sources: Sources;
  readonly #conversions: Conversions;

  constructor(deps: NamedSnapshotDeps, registry: Registry, sources: Sources, conversions: Conversions) {
    this.#deps = deps;
    this.#conversions = conversions;
    this.#registry = registry;
    this.#sources = sources;
  }

  /**
   * Makes a snapshot with a name of a sandbox, which is as before.
   * @throws PerchError as SandboxDriver.copy; sandbox_not_found, snapshot_exists
   */
  async create(request: HostSnapshotCreate): Promise<NewSnapshot> {
    const { name, sandbox_id: id, generation, overwrite, memory = true } = request;
    const { saved, snapshots } = this.#deps;
    const driver = this.#registry.expect(id);
    await this.#assertFree(name, overwrite);
    const start = performance.now();
    let timings: Readonly<Record<string, number>> = {};
    await snapshots.create(name, overwrite, (to) =>
      driver.copy(generation, {
        as: 'snapshotting',
        memory,
        take: async (taken, stages) => {
          timings = stages;
          await saved.copy(id, taken, to, memory);
        },
      }),
    );
    await this.#deps.changed(name);
    const { total: _, ...stages } = timings;
    return { ...(await snapshots.get(name)), timings_ms: { ...stages, total: milliseconds(start) } };
  }

  /**
   * Makes a snapshot with a name of a directory of this host, which is read only. For root alone.
   * @throws PerchError import_refused, snapshot_exists, capacity_exhausted, host_disk_full. There is nothing new
   *   then.
   */
  async import({ name, overwrite, ...request }: HostSnapshotImport): Promise<HostImported> {
    const { snapshots } = this.#deps;
    await this.#assertFree(name, overwrite);
    let assumed: HostImported['assumed'] = [];
    await snapshots.create(name, overwrite, async (to) => {
      assumed = await importSnapshot(request, to, this.#deps);
    });
    await this.#deps.changed(name);
    return { snapshot: await snapshots.get(name), assumed };
  }

  async #assertFree(name: string, overwrite: boolean): Promise<void> {
    const { snapshots, images } = this.#deps;
    if (images.find(name)) {
      throw new PerchError('snapshot_exists', `${name} is an image.`, { name });
    }
    if (!overwrite) await snapshots.assertFree(name);
  }

  /** The sources of sandboxes, by name. */
  list(): Promise<Snapshot[]> {
    return this.#sources.list();
  }

  /** @throws PerchError snapshot_not_found, snapshot_damaged */
  describe(name: string): Promise<Snapshot> {
    return this.#sources.describe(name);
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
    await this.#deps.changed(name);
  }

  /**
   * Makes the disk of a snapshot one file that needs no image below it.
   * @throws PerchError snapshot_not_found, capacity_exhausted, host_disk_full
   */
  async flatten(name: string): Promise<Snapshot> {
    const { snapshots, images } = this.#deps;
    if (!images.find(name) && !(await snapshots.get(name)).standalone) {
      await snapshots.change(name, (from, to) => flattenSnapshot(from, to, this.#deps));
      await this.#deps.changed(name);
    }
    return this.#sources.describe(name);
  }

  /**
   * Makes the layers of the disk of a snapshot one layer of this format, whichever kind of disk this host has. One whose
   * disk stands alone has none, and stays.
   * @throws PerchError snapshot_not_found, snapshot_damaged, capacity_exhausted, host_disk_full, conversion_failed
   */
  async convert(name: string, to: LayerFormat): Promise<Snapshot> {
    if (!this.#deps.images.find(name)) {
      await this.#conversions.run(name, to);
      await this.#deps.changed(name);
    }
    return this.#sources.describe(name);
  }
}
