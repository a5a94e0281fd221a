/** All sandboxes of this host. */
import { mkdir } from 'node:fs/promises';
import {
  type HostCreate,
  type HostFork,
  type HostForked,
  type HostMachine,
  type HostResume,
  type HostSandbox,
  PerchError,
  type SandboxHistory,
} from '@perch/protocol';
import { failpoint } from '../failpoints/index.ts';
import { Conversions, type MergeReport, Merges, type MergesOptions } from './checkpoints/index.ts';
import { type DiskRoom, sweepUnowned } from './journal/index.ts';
import { NamedSnapshots } from './named-snapshots.ts';
import { ReadyGuests } from './ready-guests.ts';
import { exists, historyOf, Registry, type ResourceDeps, Resources, SandboxDriver } from './sandbox/index.ts';
import { Forks, type Reservations, type StartDeps, StartPlanner } from './start/index.ts';

export interface LifecycleDeps extends ResourceDeps, StartDeps {
  /** The means by which guests run here. */
  machine: HostMachine;
  room: DiskRoom;
  merges: Pick<MergesOptions, 'merge' | 'quietMs'>;
  /** Below them lie the files of all disks. */
  diskRoots: readonly string[];
}

/** The fields that make a create the same as one before; secrets are in no record. */
const requested = ['generation', 'template', 'vcpus', 'memory_mb', 'disk_mb'] as const;

/** Sandboxes that a start finds out about at a time: most of it is waiting for their monitors. */
const recoveredAtOnce = 8;

/** How long a guest may run on a disk that is lost, milliseconds. */
const diskCheckMs = 2000;
const teardownRetryMs = [200, 1000, 5000, 30_000];

export class Lifecycle {
  readonly snapshots: NamedSnapshots;
  readonly ready: ReadyGuests;
  readonly #deps: LifecycleDeps;
  readonly #registry: Registry;
  readonly #planner: StartPlanner;
  readonly #forks: Forks;
  readonly #merges: Merges;
  readonly #conversions: Conversions;
  #diskChecks: NodeJS.Timeout | undefined;

  constructor(deps: LifecycleDeps) {
    const { journal, network, saved, disks, log } = deps;
    this.#deps = deps;
    this.#registry = new Registry({
      ...{ journal, network },
      newDriver: (id, changed) =>
        new SandboxDriver(id, new Resources(deps), {
          ...{ journal, saved, disks, log, changed, retryMs: teardownRetryMs },
          admitAgain: (record, work) => this.#planner.reservations.again(record, work),
          mergeNow: (...args) => this.#merges.now(...args),
        }),
      lost: (id) => this.#planner.pool.lost(id),
    });
    this.#conversions = new Conversions(deps);
    this.#planner = new StartPlanner(deps, this.#registry, this.#conversions);
    this.#forks = new Forks(deps, this.#registry, this.#planner);
    this.ready = new ReadyGuests(deps, this.#planner);
    const { sources } = this.#planner;
    this.snapshots = new NamedSnapshots(
      { ...deps, changed: (name) => this.ready.changed(name) },
      this.#registry,
      sources,
      this.#conversions,
    );
    this.#merges = new Merges({ ...deps.merges, find: (id) => this.#registry.find(id), log });
    this.watch((sandbox) => this.#merges.note(sandbox));
  }

  /**
   * Brings journal and machine together again: adopts what lives, finishes or undoes what was half done,
   * removes what nobody owns. The network layer starts in the middle of it, knowing which slots are in use.
   * Drivers give things back by themselves afterwards: a machine that cannot be ended holds nobody else up.
   */
  async start(): Promise<void> {
    const { journal, network, monitor, disks, saved, snapshots, vmsDir, log } = this.#deps;
    await mkdir(vmsDir, { recursive: true, mode: 0o700 });
    const records = this.#registry.load();
    const machines = new Set(records.map(({ vm }) => vm));
    const owned = new Set(records.map(({ id }) => id));
    const swept = [...(await sweepUnowned(vmsDir, machines)), ...(await saved.start(owned))];
    await snapshots.start();
    const leftovers = [await monitor.unowned(() => machines), await disks.unowned(() => machines)].flat();
    for (const { what, remove } of leftovers) {
      // Somebody else may hold it. What `perch fsck` can remove later keeps nobody's sandboxes waiting.
      await remove().catch((err: unknown) => log.error({ err, what }, 'what nobody owns cannot be removed'));
    }
    failpoint('start.swept');
    if (swept.length > 0) log.warn({ sandboxes: swept }, 'removed what no journal entry owns');
    const left = this.#registry.all().values();
    const recoverRest = async () => {
      for (const driver of left) await driver.recover();
    };
    await Promise.all(Array.from({ length: recoveredAtOnce }, recoverRest));
    failpoint('start.adopted');
    await network.start(journal.list().flatMap(({ slot }) => (slot === null ? [] : [slot])));
    failpoint('start.network');
    for (const driver of this.#registry.all()) driver.finishRecovery();
    failpoint('start.finished');
    await this.ready.recover();
    await this.#planner.recover();
    failpoint('start.done');
    for (const sandbox of this.list()) this.#merges.note(sandbox);
    if (disks.lossOf) this.#diskChecks = setInterval(() => this.#checkDisks(), diskCheckMs).unref();
  }

  #checkDisks(): void {
    for (const driver of this.#registry.all()) {
      try {
        driver.checkDisk();
      } catch (err) {
        this.#deps.log.error({ sandbox: driver.id, err }, 'its disk cannot be looked at');
      }
    }
  }

  /**
   * Creates a sandbox and resolves once it runs. The same id and shape again gives the same sandbox.
   * @throws PerchError sandbox_exists, template_not_found, disk_too_small, shape_mismatch, snapshot_damaged,
   *   capacity_exhausted, host_disk_full, sandbox_failed
   */
  async create(id: string, request: HostCreate): Promise<HostSandbox> {
    const known = this.#registry.find(id);
    if (known) return this.#repeated(known, request);
    using _ = this.#planner.pool.busy();
    const source = await this.#planner.sources.find(request);
    const driver = await this.#planner.admit(id, source, request);
    if (!driver) return this.#repeated(this.#registry.expect(id), request);
    const { generation, access_token: accessToken, env } = request;
    await driver.create(generation, { from: source, secrets: { accessToken, env } });
    return this.get(id);
  }

  /** The answer to a create that was asked for before. */
  async #repeated(driver: SandboxDriver, request: HostCreate): Promise<HostSandbox> {
    const { id, record } = driver;
    const same = record && requested.every((field) => record[field] === request[field]);
    if (!same) throw exists(id);
    await driver.started;
    const sandbox = this.get(id);
    if (sandbox.status === 'running') return sandbox;
    const reason = sandbox.reason ?? `It is ${sandbox.status}.`;
    throw new PerchError('sandbox_failed', `Sandbox ${id} does not run. ${reason}`, { id, reason });
  }

  /** As SandboxDriver.pause. @throws PerchError sandbox_not_found too */
  async pause(id: string, generation: number, memory?: boolean): Promise<HostSandbox> {
    await this.#registry.expect(id).pause(generation, memory);
    return this.get(id);
  }

  /** As SandboxDriver.resume. @throws PerchError sandbox_not_found too */
  async resume(id: string, request: HostResume): Promise<HostSandbox> {
    using _ = this.#planner.pool.busy();
    const { access_token: accessToken, ...rest } = request;
    await this.#registry.expect(id).resume({ accessToken, ...rest });
    return this.get(id);
  }

  /** As Forks.fork. */
  async fork(id: string, request: HostFork): Promise<HostForked> {
    using _ = this.#planner.pool.busy();
    return await this.#forks.fork(id, request);
  }

  /** @throws PerchError sandbox_not_found */
  async history(id: string): Promise<SandboxHistory> {
    const { saved, diskRoots } = this.#deps;
    return historyOf(this.#registry.expect(id), saved, diskRoots);
  }

  /** @throws PerchError sandbox_not_found */
  async destroy(id: string): Promise<void> {
    await this.#registry.expect(id).destroy();
  }

  async destroyAll(): Promise<void> {
    await this.#planner.pool.stop();
    await Promise.all(this.#registry.all().map((driver) => driver.destroy()));
  }

  /** @throws PerchError sandbox_not_found */
  get(id: string): HostSandbox {
    return this.#registry.get(id);
  }

  list(): HostSandbox[] {
    return this.#registry.sandboxes().map((record) => this.#registry.view(record));
  }

  /** Guests that stand still until the host's disk has room for what they write. */
  lackingRoom(): number {
    return this.#registry.all().filter(({ resources }) => resources.vm?.room?.lacks).length;
  }

  /** Bytes that the guest wrote to its console, the last of them. @throws PerchError sandbox_not_found */
  async console(id: string): Promise<Buffer> {
    return this.#registry.expect(id).resources.console();
  }

  /** Calls back after each change until the returned function is called. */
  watch(listener: (sandbox: HostSandbox) => void): () => void {
    return this.#registry.watch(listener);
  }

  /** Has `listener` told of each checkpoint that was merged. */
  watchMerges(listener: (report: MergeReport) => void): void {
    this.#merges.watch(listener);
  }

  /** The resources of this host: all, and free ones. */
  get reservations(): Pick<Reservations, 'capacity' | 'lacks'> {
    return this.#planner.reservations;
  }

  /** Lets go of all sandboxes, which run on. Guests that stand ready go. */
  async stop(): Promise<void> {
    await this.#planner.pool.stop();
    await this.letGo();
  }

  /** Lets go of all there is, as it is. */
  async letGo(): Promise<void> {
    clearInterval(this.#diskChecks);
    this.#planner.pool.halt();
    await Promise.all([this.#merges.stop(), this.#conversions.stop()]);
    await Promise.allSettled(this.#registry.all().map((driver) => driver.stop()));
  }
}
