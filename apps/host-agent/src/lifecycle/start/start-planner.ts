/** How guests begin: with room found for them, from what they start from, or as one that stands ready. */
import { randomBytes } from 'node:crypto';
import { isPerchError, limits, newSandboxId, PerchError } from '@perch/protocol';
import type { Logger } from 'pino';
import { failpoint } from '../../failpoints/index.ts';
import type { BaseImage, BootFiles, ImageStore } from '../../images/index.ts';
import type { SnapshotDirectory } from '../../snapshot/index.ts';
import {
  type SavedState,
  type SnapshotStore,
  type StateStore,
  startCheckpoint,
} from '../checkpoints/index.ts';
import { isDiskFull, type Journal, Mutex, type SandboxRecord, type SandboxSpec } from '../journal/index.ts';
import { type Origin, type Registry, type SandboxDriver, type Secrets, sentence } from '../sandbox/index.ts';
import {
  type Admission,
  type Capacity,
  isHeld,
  type OnDisk,
  type Resource,
  type Shape,
} from './admission.ts';
import type { BootSnapshots, GuestShape } from './boot-snapshots.ts';
import { PrewarmedPool } from './prewarmed-pool.ts';
import { type Source, Sources } from './sources.ts';

export interface StartDeps {
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

/** The first command of a guest takes ten times as long as the next: QEMU translates what the kernel does for it. */
const firstCommand = 'true';
/** The needs of most commands are then in the memory of all who start from the boot snapshot, and nothing is left to write. */
const usualCommands = '/bin/true; ls; python3 -c pass; sync';

export class StartPlanner {
  readonly sources: Sources;
  readonly pool: PrewarmedPool;
  readonly #deps: StartDeps;
  readonly #registry: Registry;
  /** Admissions look at what is held and then add to it: one at a time. */
  readonly #admitting = new Mutex();

  constructor(deps: StartDeps, registry: Registry) {
    this.#deps = deps;
    this.#registry = registry;
    this.sources = new Sources(deps, (image, shape, keep) => this.#bootImage(image, shape, keep));
    this.pool = new PrewarmedPool({
      size: deps.readyGuests,
      make: (signal) => this.#makeReady(signal),
      ...poolTimes,
      log: deps.log,
    });
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

  /** Finds room for a sandbox and enters it. Undefined when there is one of this id. @throws capacity_exhausted */
  admit(
    id: string,
    source: Source,
    { generation, template }: Pick<SandboxSpec, 'generation' | 'template'>,
  ): Promise<SandboxDriver | undefined> {
    const { admission } = this.#deps;
    return this.#admitting.run(async () => {
      if (this.#registry.find(id)) return undefined;
      await admission.admit(source.shape, await this.#onDisk());
      if (source.pooled) {
        const taken = this.#takeReady(id, source.shape, { generation, template });
        if (taken) return taken;
      }
      await this.#makeRoom(source.shape);
      return this.#registry.insert({ ...source.shape, id, kind: 'sandbox', generation, template });
    });
  }

  /** Starts one that was admitted; resolves once it runs. @throws PerchError as SandboxDriver.create */
  async start(driver: SandboxDriver, source: Source, generation: number, secrets: Secrets): Promise<void> {
    await driver.create(generation, (signal) => this.#origin(driver, source, signal), secrets);
  }

  /** Finds room for a paused sandbox and does `work` before anybody else asks for it. */
  admitAgain(record: SandboxRecord, work: () => void): Promise<void> {
    return this.#admitting.run(async () => {
      this.#deps.admission.admitMemory(record, this.#held());
      await this.#makeRoom(record);
      work();
    });
  }

  async capacity(): Promise<Record<Resource, Capacity>> {
    const held = await this.#onDisk();
    const { admission } = this.#deps;
    return { memory: admission.memory(held), disk: await admission.disk(held) };
  }

  /** The resources of which there is too little for one more of this shape. @param room of whoever has just asked for it */
  async lacks(shape: Shape, room?: Record<Resource, Capacity>): Promise<Resource[]> {
    return this.#deps.admission.lacks(shape, room ?? (await this.capacity()));
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

  /** Guests that stand ready are not counted as held, and go when their memory is needed. */
  async #makeRoom(shape: Shape): Promise<void> {
    if (this.#deps.admission.fitsMemory(shape, this.#inMemory())) return;
    await this.pool.giveWay();
  }

  /** Makes a guest that stands ready, where there is room for it. A destroy is what cuts it short. */
  async #makeReady(signal: AbortSignal): Promise<SandboxDriver | undefined> {
    const source = await this.sources.find(defaultRequest);
    if (!this.#deps.admission.fitsMemory(source.shape, this.#inMemory())) return undefined;
    signal.throwIfAborted();
    const id = newSandboxId();
    const { template } = defaultRequest;
    const driver = this.#registry.insert({ ...source.shape, id, kind: 'ready', generation: 1, template });
    signal.addEventListener('abort', () => void driver.destroy().catch(() => {}), { once: true });
    try {
      const accessToken = randomBytes(32).toString('hex');
      await driver.create(1, (signal) => this.#origin(driver, source, signal), { accessToken, env: {} });
      const record = await warmUp(driver, accessToken, firstCommand);
      failpoint('ready.warm');
      await driver.resources.standReady(record);
      failpoint('ready.still');
      return driver;
    } catch (error) {
      await driver.destroy();
      throw error;
    }
  }

  /** A sandbox keeps links of its own of all files that it starts from. */
  async #origin(
    { id, record, resources }: SandboxDriver,
    source: Source,
    signal: AbortSignal,
  ): Promise<Origin> {
    const { journal, saved } = this.#deps;
    if (record && record.vm !== id && record.identity && resources.vm) {
      failpoint('takeover.journaled');
      await saved.moveAll(record.vm, id);
      failpoint('takeover.moved');
      return { kind: 'ready', vm: resources.vm, identity: record.identity };
    }
    await source.begin(id, signal);
    failpoint('create.begun');
    journal.setLastCheckpoint(id, startCheckpoint);
    return { kind: 'snapshot', snapshot: await this.#open(id) };
  }

  async #open(id: string): Promise<SavedState> {
    try {
      return await this.#deps.saved.open(id, startCheckpoint);
    } catch (cause) {
      // Of a sandbox that never ran nothing is left to be resumed.
      if (!isPerchError(cause, 'resume_failed')) throw cause;
      throw new Error(cause.details.reason, { cause });
    }
  }

  /**
   * Boots a guest from power-on, as a sandbox that nobody else sees, and has `keep` take its snapshot. Room for
   * it is what the sandbox that waits for it has reserved.
   */
  async #bootImage(
    image: BaseImage,
    shape: GuestShape,
    keep: (snapshot: SnapshotDirectory) => Promise<void>,
  ): Promise<void> {
    const id = newSandboxId();
    const driver = this.#registry.insert({
      ...shape,
      id,
      kind: 'boot',
      generation: 1,
      template: image.name,
    });
    try {
      const accessToken = randomBytes(32).toString('hex');
      await driver.create(1, async () => ({ kind: 'image', image }), { accessToken, env: {} });
      await warmUp(driver, accessToken, usualCommands);
      await driver.pause(1);
      failpoint('template.paused');
      await keep(this.#deps.saved.directory(id, 1));
      failpoint('template.kept');
    } catch (cause) {
      throw notPrepared(cause);
    } finally {
      await driver.destroy();
    }
  }

  /** Sandboxes that something is reserved for. */
  #held(): SandboxRecord[] {
    return this.#registry.sandboxes().filter(isHeld);
  }

  /** Sandboxes and guests that stand ready, which have memory that is nobody's yet. */
  #inMemory(): SandboxRecord[] {
    return this.#deps.journal.list().filter((record) => record.kind !== 'boot' && isHeld(record));
  }

  #onDisk(): Promise<(SandboxRecord & OnDisk)[]> {
    return Promise.all(
      this.#held().map(async (record) => {
        const writtenBytes = await this.#registry.find(record.id)?.resources.writtenBytes(record);
        return { ...record, writtenBytes: writtenBytes ?? 0 };
      }),
    );
  }
}

async function warmUp(driver: SandboxDriver, accessToken: string, line: string): Promise<SandboxRecord> {
  const { record } = driver;
  if (record?.status !== 'running') throw new Error(record?.reason ?? 'It is gone.');
  await driver.resources.warmUp(record, accessToken, line);
  return record;
}

/** Why no guest could be booted; without room on the disk, as every create is told of that. */
function notPrepared(cause: unknown): Error {
  const message = `No guest of this shape could be prepared. ${sentence(cause)}`;
  if (isPerchError(cause, 'capacity_exhausted'))
    return new PerchError(cause.code, message, cause.details, { cause });
  if (isDiskFull(cause)) return new PerchError('host_disk_full', message, {}, { cause });
  return new Error(message, { cause });
}
