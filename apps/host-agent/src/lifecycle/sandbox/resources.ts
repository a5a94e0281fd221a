/**
 * The resources of a sandbox on its host, made and removed in one order:
 * slot → directory → disk → monitor → guest ready, and back. Each is written to the journal before it is made.
 */
import { chown, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type DiskBackend,
  DiskGone,
  type DiskPlace,
  type DiskSpec,
  type DiskState,
  type VmDisk,
} from '../../disk/index.ts';
import { failpoint } from '../../failpoints/index.ts';
import type { GuestReadiness } from '../../guest/index.ts';
import type { BaseImage, BootFiles } from '../../images/index.ts';
import type { ProcessRef } from '../../linux/index.ts';
import type { NetworkLayer, Slot } from '../../network/index.ts';
import { noRoomForGuest, type Vm, type VmMonitor, type VmSpec, type VmState } from '../../vmm/index.ts';
import type { SavedState } from '../checkpoints/index.ts';
import {
  type HeldIdentity,
  type Journal,
  type SandboxRecord,
  Stopwatch,
  started,
  tornDown,
} from '../journal/index.ts';
import { consoleOf } from './console.ts';

export interface ResourceDeps {
  journal: Journal;
  network: NetworkLayer;
  disks: DiskBackend;
  monitor: VmMonitor;
  guest: GuestReadiness;
  /** Directory of the VMs' directories; 0700, root: a monitor starts inside its own, and needs no way there. */
  vmsDir: string;
  boot: BootFiles;
  /** How long a guest may take until its agent answers, milliseconds. */
  bootTimeoutMs: number;
}

/** The secrets of a new life. */
export interface Secrets {
  accessToken: string;
  /** Without it the guest keeps what its snapshot has. */
  env?: Record<string, string>;
}

/** The origin of a life. */
export type Origin =
  | { kind: 'image'; image: BaseImage }
  /** A guest that stands still, and that the journal says is this sandbox's. */
  | { kind: 'ready'; vm: Vm; identity: HeldIdentity }
  | { kind: 'snapshot'; snapshot: SavedState };

type NewOrigin = Exclude<Origin, { kind: 'ready' }>;

/** What was made, for the journal. */
export interface Made {
  /** The identity that its guest agent believes in. */
  identity: HeldIdentity;
  /** Milliseconds of each stage. */
  laps: Record<string, number>;
}

/** A guest that runs, and what is known of it. */
export interface HeldGuest {
  vm: Vm;
  /** The identity that its guest agent believes in. */
  identity: HeldIdentity;
  /** Its directory and user. */
  dir: string;
  uid: number;
}

/** The state that a guest goes on from; undefined of one that is booted. */
function stateOf(origin: NewOrigin): VmState | undefined {
  return origin.kind === 'snapshot' ? origin.snapshot.vm : undefined;
}

/** User that commands run as unless a request names another. Every base image has it. */
const defaultUser = 'user';

export class Resources {
  readonly #deps: ResourceDeps;
  /** Held while the monitor is known to run. */
  vm: Vm | undefined;
  /** The console's last bytes when the monitor was let go: it often has the reason. */
  #lastConsole: Buffer = Buffer.alloc(0);

  constructor(deps: ResourceDeps) {
    this.#deps = deps;
  }

  /**
   * Makes everything. On failure the caller tears down what the journal names.
   */
  async make(record: SandboxRecord, origin: Origin, secrets: Secrets, signal: AbortSignal): Promise<Made> {
    const stages = new Stopwatch();
    if (origin.kind === 'ready') {
      const identity = await this.#takeOver(record, origin, secrets, signal, stages);
      return { identity, laps: stages.laps };
    }
    const slot = await this.#begin(record, origin, signal, stages);
    await this.#letRun(record, origin, slot, signal, stages);
    const before = origin.kind === 'snapshot' ? origin.snapshot.identity : undefined;
    const isNew = stateOf(origin) === undefined;
    const identity = await this.#identify(record, { before, isNew }, secrets, slot, signal, stages);
    return { identity, laps: stages.laps };
  }

  /** As `make`, of a guest that stands still as its snapshot has it: it has not run yet, and nobody has told it anything. */
  async makeStill(record: SandboxRecord, origin: Origin, signal: AbortSignal): Promise<Made> {
    if (origin.kind !== 'snapshot' || !stateOf(origin))
      throw new Error(`The guest ${record.vm} has no snapshot with memory.`);
    const stages = new Stopwatch();
    await this.#begin(record, origin, signal, stages);
    stages.lap('monitor');
    return { identity: origin.snapshot.identity, laps: stages.laps };
  }

  /** Makes all that it needs to run, and its monitor. A guest that goes on from a snapshot stands still. */
  async #begin(
    record: SandboxRecord,
    origin: NewOrigin,
    signal: AbortSignal,
    stages: Stopwatch,
  ): Promise<Slot> {
    const { journal, network } = this.#deps;
    const slot = await network.acquire();
    started(record, 'slot');
    try {
      journal.setSlot(record.id, slot.number);
    } catch (error) {
      await network.release(slot.number);
      throw error;
    }
    started(record, 'slot_journaled');
    stages.lap('slot');
    signal.throwIfAborted();
    const disk = await this.#makeDisk(record, origin, slot);
    started(record, 'disk');
    stages.lap('disk');
    signal.throwIfAborted();
    await this.#startMonitor(record, origin, slot, disk);
    return slot;
  }

  async #letRun(
    record: SandboxRecord,
    origin: NewOrigin,
    slot: Slot,
    signal: AbortSignal,
    stages: Stopwatch,
  ): Promise<void> {
    const state = stateOf(origin);
    if (state) await this.running(record).thaw();
    started(record, 'thawed');
    stages.lap('monitor');
    const { memoryWay } = this.running(record);
    if (memoryWay) stages.note(`memory_${memoryWay.name}`, memoryWay.ms);
    if (state) return;
    await this.#whileReady(record, signal, (ready) => this.#deps.guest.waitForAgent(slot.address, ready));
    failpoint('template.agent');
    stages.lap('agent');
  }

  async #takeOver(
    record: SandboxRecord,
    { vm, identity }: Extract<Origin, { kind: 'ready' }>,
    secrets: Secrets,
    signal: AbortSignal,
    stages: Stopwatch,
  ): Promise<HeldIdentity> {
    if (record.slot === null) throw new Error(`The ready guest ${record.vm} has no slot.`);
    this.vm = vm;
    await vm.thaw();
    started(record, 'thawed');
    stages.lap('thaw');
    const slot = this.#deps.network.describe(record.slot);
    return this.#identify(record, { before: identity, isNew: false }, secrets, slot, signal, stages);
  }

  /** Has a guest that runs, and that nobody else uses, run a line of shell. */
  async warmUp(record: SandboxRecord, accessToken: string, line: string): Promise<void> {
    if (record.slot === null) throw new Error(`The guest ${record.vm} has no slot.`);
    const { address } = this.#deps.network.describe(record.slot);
    const { signal } = new AbortController();
    await this.#whileReady(record, signal, (ready) =>
      this.#deps.guest.warmUp(address, accessToken, line, ready),
    );
  }

  /**
   * Has a guest that runs write all of its disk out, and change nothing of it until it ends or is let go of. Its guest
   * agent lets go by itself after ten seconds. @throws Error when the guest does not say that it is done; with code
   * ENOSPC at once when it waits for room on the host's disk
   */
  holdDisk(record: SandboxRecord, signal: AbortSignal): Promise<void> {
    return this.#askAbout(record, signal, this.#deps.guest.holdDisk);
  }

  /** As `holdDisk`, and it goes on changing it. */
  writeOut(record: SandboxRecord, signal: AbortSignal): Promise<void> {
    return this.#askAbout(record, signal, this.#deps.guest.writeOut);
  }

  letGoOfDisk(record: SandboxRecord, signal: AbortSignal): Promise<void> {
    return this.#askAbout(record, signal, this.#deps.guest.letGoOfDisk);
  }

  async #askAbout(
    record: SandboxRecord,
    signal: AbortSignal,
    ask: (address: string, accessToken: string, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const { slot, identity } = record;
    if (slot === null || !identity) throw new Error(`Sandbox ${record.id} holds no guest.`);
    const { address } = this.#deps.network.describe(slot);
    const { room } = this.running(record);
    await this.#whileReady(record, signal, async (ready) => {
      const asked = ask(address, identity.accessToken, ready);
      // An agent whose guest waits for room answers when there is some.
      const lacks = room?.untilLacks(ready).then(() => Promise.reject<void>(noRoomForGuest()));
      await (lacks ? Promise.race([lacks, asked]) : asked);
    });
  }

  /**
   * Gives up when the monitor ends, when a guest has had its time, and when `signal` says so. Nothing of the work
   * goes on then: another guest gets the address.
   */
  async #whileReady<T>(
    record: SandboxRecord,
    signal: AbortSignal,
    work: (ready: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const over = new AbortController();
    const ready = AbortSignal.any([signal, over.signal, AbortSignal.timeout(this.#deps.bootTimeoutMs)]);
    const ended = this.running(record).exited.then((reason) => Promise.reject<T>(new Error(reason)));
    try {
      return await Promise.race([ended, work(ready)]);
    } finally {
      over.abort();
    }
  }

  async #makeDisk(record: SandboxRecord, origin: NewOrigin, { uid }: Slot): Promise<VmDisk> {
    const dir = this.directory(record);
    await mkdir(dir, { mode: 0o700 });
    started(record, 'directory');
    await chown(dir, uid, uid);
    const from: DiskState =
      origin.kind === 'image' ? { format: 'image', image: origin.image.rootfs } : origin.snapshot.disk;
    return this.#deps.disks.create(this.#diskSpec(record, uid), from);
  }

  #place(record: SandboxRecord): DiskPlace {
    return { id: record.vm, dir: this.directory(record) };
  }

  #diskSpec(record: SandboxRecord, uid: number): DiskSpec {
    return { ...this.#place(record), uid, sizeBytes: record.disk_mb * 2 ** 20 };
  }

  /** The journal has its process before the guest can run. */
  async #startMonitor(record: SandboxRecord, origin: NewOrigin, slot: Slot, disk: VmDisk): Promise<void> {
    const { journal, monitor } = this.#deps;
    const spec = { ...this.#spec(record, slot.number), disk };
    const state = stateOf(origin);
    if (origin.kind === 'snapshot') {
      const { kernelId: kernel, initramfsId: initramfs } = this.#deps.boot;
      const booted = state ? origin.snapshot.booted : { kernel, initramfs };
      if (booted.kernel !== record.kernel || booted.initramfs !== record.initramfs)
        journal.setBooted(record.id, booted);
      if (!state) failpoint('reboot.journaled');
    }
    const there = (processes: readonly ProcessRef[]) => {
      started(record, 'monitor');
      journal.setProcesses(record.id, processes);
      started(record, 'process_journaled');
    };
    this.vm = state ? await monitor.restore(spec, state, there) : await monitor.boot(spec, there);
  }

  /**
   * The guest takes over who it is now; until it confirmed all of it, nobody else may use it.
   * @param guest `before`: who the sandbox was until now; undefined when it is new. `isNew`: its guest was booted, and
   *   believes nothing
   */
  async #identify(
    record: SandboxRecord,
    { before, isNew }: { before: HeldIdentity | undefined; isNew: boolean },
    secrets: Secrets,
    slot: Slot,
    signal: AbortSignal,
    stages: Stopwatch,
  ): Promise<HeldIdentity> {
    const number = (before?.number ?? 0) + 1;
    const env = secrets.env ?? before?.env;
    const identity = {
      sandboxId: record.id,
      templateId: record.template,
      number,
      accessToken: secrets.accessToken,
      proof: isNew ? undefined : before?.accessToken,
      env: isNew ? env : secrets.env,
      defaultUser,
    };
    await this.#whileReady(record, signal, (ready) =>
      this.#deps.guest.giveIdentity(slot.address, identity, ready),
    );
    started(record, 'ready');
    stages.lap('identity');
    const isEmpty = Object.keys(env ?? {}).length === 0;
    return { accessToken: secrets.accessToken, number, ...(env && !isEmpty ? { env } : {}) };
  }

  /** The source of a checkpoint. @throws Error when there is no guest, or nobody knows what it believes */
  guest(record: SandboxRecord): HeldGuest {
    const { slot, identity } = record;
    if (slot === null || !identity) throw new Error(`Sandbox ${record.id} holds no guest.`);
    const { uid } = this.#deps.network.describe(slot);
    return { vm: this.running(record), identity, dir: this.directory(record), uid };
  }

  /**
   * Finds the monitor of a sandbox that ran before this process did, and its disk.
   * @returns what it cannot run on without, for the beginning of a sentence
   */
  async adopt(record: SandboxRecord): Promise<string | undefined> {
    const { disks, journal, network } = this.#deps;
    if (record.slot !== null) this.vm ??= await this.#find(record, record.slot);
    if (record.slot === null || !this.vm) return 'The VM monitor was gone';
    journal.setProcesses(record.id, this.vm.processes);
    try {
      await disks.adopt(this.#diskSpec(record, network.describe(record.slot).uid));
    } catch (error) {
      if (error instanceof DiskGone) return `Its disk was gone (${error.message})`;
      throw error;
    }
  }

  /**
   * Removes everything that the journal names, by who holds whose files: the monitor first, then what it
   * had open. When the monitor cannot be ended nothing after it is touched; else each step runs, whatever
   * became of the one before.
   * @throws AggregateError of the steps that failed. Running it again goes on where it stopped.
   */
  async remove(record: SandboxRecord): Promise<void> {
    const { journal, network, disks } = this.#deps;
    const dir = this.directory(record);
    if (record.slot !== null) {
      const vm = this.vm ?? (await this.#find(record, record.slot));
      this.#lastConsole = vm ? await consoleOf(vm) : this.#lastConsole;
      await vm?.kill();
      vm?.release();
      this.vm = undefined;
    }
    tornDown(record, 'killed');
    journal.setEnded(record.id);
    const failures: unknown[] = [];
    const step = async (work: () => Promise<unknown>) => {
      try {
        await work();
      } catch (error) {
        failures.push(error);
      }
    };
    await step(async () => {
      await disks.remove(this.#place(record));
      tornDown(record, 'disk_removed');
      // As long as the disk is there its files are: what it has taken of the host's room shows by them.
      await rm(dir, { recursive: true, force: true });
    });
    const { slot } = record;
    if (slot !== null) {
      await step(async () => {
        await network.release(slot);
        tornDown(record, 'slot_released');
        journal.setSlot(record.id, null);
      });
    }
    if (failures.length > 0)
      throw new AggregateError(failures, `Not all of sandbox ${record.id} could be removed.`);
  }

  /** The last bytes of the guest's console, also after its end, and while its monitor does not answer. */
  async console(): Promise<Buffer> {
    return this.vm ? consoleOf(this.vm) : this.#lastConsole;
  }

  /** Bytes of those promised to it in this life that are on the host already: 0 when it has none. */
  async takenBytes(record: SandboxRecord): Promise<number> {
    const { disks, monitor } = this.#deps;
    const place = this.#place(record);
    return (await disks.takenBytes(place)) + (await monitor.takenBytes(place));
  }

  /** The most that a copy of its guest, which runs, takes on the host: of memory and disk, bytes. */
  async copyBytesAtMost(record: SandboxRecord): Promise<number> {
    const memory = await this.running(record).unsavedBytesAtMost();
    return memory + (await this.#deps.disks.copyBytes(this.#place(record)));
  }

  /** The reason that its guest, which runs, cannot go on: its disk is lost. For the beginning of a sentence. */
  diskLoss(record: SandboxRecord): string | undefined {
    const loss = this.#deps.disks.lossOf?.(this.#place(record));
    return loss && `Its disk was gone (${loss.message})`;
  }

  /** @throws Error when no monitor is known to run */
  running({ id }: SandboxRecord): Vm {
    if (!this.vm) throw new Error(`Sandbox ${id} has no VM monitor.`);
    return this.vm;
  }

  async #find(record: SandboxRecord, slot: number): Promise<Vm | undefined> {
    const spec = this.#spec(record, slot);
    return this.#deps.monitor.adopt(spec, record.processes);
  }

  #spec(record: SandboxRecord, slotNumber: number): Omit<VmSpec, 'disk'> {
    const slot = this.#deps.network.describe(slotNumber);
    return {
      id: record.vm,
      dir: this.directory(record),
      uid: slot.uid,
      vcpus: record.vcpus,
      memoryMb: record.memory_mb,
      kernel: this.#deps.boot.kernel,
      initramfs: this.#deps.boot.initramfs,
      network: { namespace: slot.namespace, tap: slot.tap, mac: slot.mac },
    };
  }

  /** Of its machine; there is none while it is paused. */
  directory({ vm }: Pick<SandboxRecord, 'vm'>): string {
    return join(this.#deps.vmsDir, vm);
  }
}
