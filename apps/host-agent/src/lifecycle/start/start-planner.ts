/** How sandboxes begin: from what, with room found for them, and whether they take a ready guest over. */
import { isPerchError, limits } from '@perch/protocol';
import type { Logger } from 'pino';
import type { DiskBackend } from '../../disk/index.ts';
import type { BootFiles, ImageStore } from '../../images/index.ts';
import type { Conversions, ConvertDeps, SnapshotStore, StateStore } from '../checkpoints/index.ts';
import type { Journal, SandboxSpec } from '../journal/index.ts';
import {
  type GuestRequest,
  type Kept,
  nameOf,
  Pins,
  PrewarmedPool,
  type ReadyGuest,
} from '../ready/index.ts';
import type { Registry, SandboxDriver } from '../sandbox/index.ts';
import type { Admission } from './admission.ts';
import type { BootSnapshots } from './boot-snapshots.ts';
import { bootGuest, makeReady } from './prepared-guests.ts';
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
  ready: ReadyOptions;
  log: Logger;
}

export interface ReadyOptions {
  /** Guests of the default shape that are kept ready. */
  guests: number;
  /** Guests that stand ready at most, of all kinds. */
  most: number;
  /** Whether the machine has the time for more than are kept. */
  mayGrow: () => boolean;
}

/** The request of a create that says nothing else. */
const defaultRequest: GuestRequest = {
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
  readonly pins: Pins;
  readonly #deps: StartDeps;
  readonly #registry: Registry;

  constructor(deps: StartDeps, registry: Registry, conversions: Conversions) {
    const { admission, journal, ready, log } = deps;
    this.#deps = deps;
    this.#registry = registry;
    this.sources = new Sources(deps, conversions, (image, shape, keep) =>
      bootGuest(image, shape, keep, { ...deps, registry }),
    );
    const giveWay = (memoryMb: number) => this.pool.giveWay(memoryMb);
    this.reservations = new Reservations({ admission, journal, registry, giveWay });
    this.pins = new Pins(journal);
    this.pool = new PrewarmedPool({
      kept: () => this.#kept(),
      most: ready.most,
      room: () => this.#roomForReady(),
      mayGrow: ready.mayGrow,
      make: (request, signal) => this.#makeReady(request, signal),
      isImpossible,
      ...{ ...poolTimes, now: () => performance.now(), log },
    });
  }

  /** When the journal has been brought together with the machine. */
  async recover(): Promise<void> {
    const { boot, journal, bootSnapshots, images, ready } = this.#deps;
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
    if (ready.most > 0) this.pool.start();
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
      // One that is refused is no use for a guest, nor is the same one again.
      if (source.ready) this.pool.asked({ ...source.shape, template });
      const taken = this.#takeReady(id, source, { generation, template });
      if (taken) return taken;
      await reservations.makeRoom(source.shape);
      return this.#registry.insert({ ...source.shape, id, kind: 'sandbox', generation, template });
    });
  }

  /** Makes a guest of this source that stands ready the sandbox `id`. Undefined when there is none. */
  #takeReady(
    id: string,
    { shape, ready }: Source,
    spec: Pick<SandboxSpec, 'generation' | 'template'>,
  ): SandboxDriver | undefined {
    const taken = ready && this.pool.take({ ...shape, template: spec.template }, ready.content);
    return taken && this.#registry.takeOver(taken, id, spec);
  }

  /** Guests that stand ready whatever is asked for: as many as somebody has set, and those of the default shape. */
  #kept(): Kept[] {
    const pinned = this.pins.all().map((pin) => ({ ...pin, isFixed: true }));
    if (pinned.some(({ request }) => nameOf(request) === nameOf(defaultRequest))) return pinned;
    return [...pinned, { request: defaultRequest, count: this.#deps.ready.guests, isFixed: false }];
  }

  /**
   * Half of the network slots, less those that are in use. Ready guests go as sandboxes take more, once no create is
   * under way.
   */
  #roomForReady(): number {
    const { journal, network } = this.#deps;
    const used = journal.list().filter(({ kind, slot }) => kind !== 'ready' && slot !== null).length;
    return Math.max(0, Math.floor(network.counts().total / 2) - used);
  }

  /** Undefined when there is no room. */
  async #makeReady(request: GuestRequest, signal: AbortSignal): Promise<ReadyGuest | undefined> {
    const source = await this.sources.find(request);
    if (!source.ready) return undefined;
    // Some kinds of disk take all of their room when they are made: that must be nobody's.
    if ((await this.reservations.lacks(source.shape)).includes('disk')) return undefined;
    // In one breath with its entry in the journal: a create may have come meanwhile.
    if (!this.reservations.fitsBesideReady(source.shape)) return undefined;
    const driver = await makeReady(source, request.template, this.#registry, signal);
    return { driver, content: source.ready.content };
  }
}

/** Whether there is no such guest, and never will be. */
function isImpossible(error: unknown): boolean {
  return (
    isPerchError(error, 'template_not_found') ||
    isPerchError(error, 'shape_mismatch') ||
    isPerchError(error, 'disk_too_small')
  );
}
