/** How sandboxes begin: from what, with room found for them, and whether they take a ready guest over. */
import { limits } from '@perch/protocol';
import type { Logger } from 'pino';
import type { DiskBackend } from '../../disk/index.ts';
import type { BootFiles, ImageStore } from '../../images/index.ts';
import type { Conversions, ConvertDeps, SnapshotStore, StateStore } from '../checkpoints/index.ts';
import type { Journal, SandboxSpec } from '../journal/index.ts';
import type { Registry, SandboxDriver } from '../sandbox/index.ts';
import type { Admission } from './admission.ts';
import type { BootSnapshots, GuestShape } from './boot-snapshots.ts';
import { bootGuest, makeReady } from './prepared-guests.ts';
import { PrewarmedPool } from './prewarmed-pool.ts';
import { Reservations } from './reservations.ts';
import { type Source, Sources } from './sources.ts';

export interface StartDeps extends ConvertDeps {
  disks: DiskBackend;
  journal: Journal;
  images: ImageStore;
  admission: Admission;
  bootSnapshots: Pick<BootSnapshots, 'start' | 'use'>;
  snapshots: SnapshotStore;
  saved: StateStore;
  boot: BootFiles;
  /** Guests of the default shape that stand ready. */
  readyGuests: number;
  log: Logger;
}

/** The fields that a ready guest must have in common with a request. */
const shapeFields = ['base', 'kernel', 'initramfs', 'vcpus', 'memory_mb', 'disk_mb'] as const;

/** The request of a create that says nothing else. */
const defaultRequest = {
  template: 'base',
  vcpus: limits.vcpus.default,
  memory_mb: limits.memoryMb.default,
  disk_mb: limits.diskMb.default,
};

const poolTimes = { quietMs: 300, againMs: 10_000 };

export class StartPlanner {
  readonly sources: Sources;
  readonly reservations: Reservations;
  readonly pool: PrewarmedPool;
  readonly #deps: StartDeps;
  readonly #registry: Registry;

  constructor(deps: StartDeps, registry: Registry, conversions: Conversions) {
    const { admission, journal, readyGuests: size, log } = deps;
    this.#deps = deps;
    this.#registry = registry;
    this.sources = new Sources(deps, conversions, (image, shape, keep) =>
      bootGuest(image, shape, keep, { ...deps, registry }),
    );
    const giveWay = () => this.pool.giveWay();
    this.reservations = new Reservations({ admission, journal, registry, giveWay });
    this.pool = new PrewarmedPool({ size, make: (signal) => this.#makeReady(signal), ...poolTimes, log });
  }

  /** When the journal has been brought together with the machine. */
  async recover(): Promise<void> {
    const { boot, journal, bootSnapshots, images, readyGuests } = this.#deps;
    const { kernelId: kernel, initramfsId: initramfs } = boot;
    await bootSnapshots.start((base) => (images.rootfsOf(base) ? { kernel, initramfs } : undefined));
    // Whoever wanted it has gone.
    for (const { id, kind } of journal.list()) {
      if (kind === 'sandbox') continue;
      this.#registry
        .expect(id)
        .destroy()
        .catch(() => {});
    }
    if (readyGuests > 0) this.pool.start();
  }

  /**
   * Finds room for a sandbox and enters it; its driver can be asked to create it then. Undefined when there is one of
   * this id. @throws PerchError capacity_exhausted
   */
  admit(
    id: string,
    source: Source,
    { generation, template }: Pick<SandboxSpec, 'generation' | 'template'>,
  ): Promise<SandboxDriver | undefined> {
    const { reservations } = this;
    return reservations.exclusively(async () => {
      if (this.#registry.find(id)) return undefined;
      await reservations.assertFits(source.shape);
      if (source.pooled) {
        const taken = this.#takeReady(id, source.shape, { generation, template });
        if (taken) return taken;
      }
      await reservations.makeRoom(source.shape);
      return this.#registry.insert({ ...source.shape, id, kind: 'sandbox', generation, template });
    });
  }

  /** Makes a guest of this shape that stands ready the sandbox `id`. Undefined when there is none. */
  #takeReady(
    id: string,
    shape: GuestShape,
    spec: Pick<SandboxSpec, 'generation' | 'template'>,
  ): SandboxDriver | undefined {
    this.pool.quiet();
    const ready = this.pool.take(({ record }) =>
      shapeFields.every((field) => record?.[field] === shape[field]),
    );
    return ready && this.#registry.takeOver(ready, id, spec);
  }

  /** Undefined when there is no room. */
  async #makeReady(signal: AbortSignal): Promise<SandboxDriver | undefined> {
    const source = await this.sources.find(defaultRequest);
    if (!this.reservations.fitsBesideReady(source.shape)) return undefined;
    // Some kinds of disk take all of their room when they are made: that must be nobody's.
    if ((await this.reservations.lacks(source.shape)).includes('disk')) return undefined;
    return makeReady(source, defaultRequest.template, this.#registry, signal);
  }
}
