/**
 * For tests: the lifecycle with monitors, disks and slots that live in memory, so that every race can be stepped
 * through. Real ones are covered by their own tests and end to end.
 */
import { existsSync } from 'node:fs';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HostCreate, HostMachine, HostSandbox, LayerFormat } from '@perch/protocol';
import { pino } from 'pino';
import { expect, vi } from 'vitest';
import { type DiskBackend, DiskGone, type VmDisk } from '../disk/index.ts';
import type { GuestIdentity } from '../guest/index.ts';
import type { ImageStore } from '../images/index.ts';
import type { NetworkLayer, Slot } from '../network/index.ts';
import {
  createMapping,
  type MemoryImage,
  mergeMapping,
  newBuildId,
  type Snapshot,
  SnapshotDirectory,
} from '../snapshot/index.ts';
import type { Started, Vm, VmMonitor } from '../vmm/index.ts';
import type { MergeCheckpoint } from './checkpoints/merges.ts';
import type { StateStore } from './checkpoints/saved-states.ts';
import { SnapshotStore } from './checkpoints/snapshot-store.ts';
import { DiskRoom } from './journal/disk-room.ts';
import { type HeldIdentity, Journal } from './journal/journal.ts';
import type { HostState } from './journal/state-machine.ts';
import { Lifecycle } from './lifecycle.ts';
import { Admission } from './start/admission.ts';
import type { BootSnapshots } from './start/boot-snapshots.ts';

export const request: HostCreate = {
  generation: 1,
  template: 'base',
  vcpus: 1,
  memory_mb: 128,
  disk_mb: 64,
  access_token: 'a'.repeat(64),
  env: {},
};

export const aMachine: HostMachine = {
  monitor: { kind: 'qemu', version: '10.0.2', accelerator: 'tcg' },
  ...{ cpu: 'max', disk: { format: 'qcow2' } },
};

const aBuild = newBuildId();
/** 4 KiB of zeros. */
const aMemory: MemoryImage = {
  header: {
    ...{ generation: 0, build: aBuild, baseBuild: aBuild },
    mapping: createMapping(4096),
  },
  headerFile: '/memory.header',
  memfileOf: () => '/memory',
};

/** A memory of as many pages as files, each in one of its own. */
export function memoryIn(files: number): MemoryImage {
  const builds = Array.from({ length: files }, () => newBuildId());
  const mapping = builds.reduce(
    (below, build, at) =>
      mergeMapping(below, { build, runs: [{ offset: at * 4096, length: 4096, storageOffset: 0 }] }),
    createMapping(files * 4096),
  );
  const [baseBuild = aBuild, build = baseBuild] = [builds[0], builds.at(-1)];
  return { ...aMemory, header: { generation: files - 1, build, baseBuild, mapping } };
}

const diskIn = (dir: string): VmDisk => ({ kind: 'block', path: join(dir, 'disk') });

const slotNumbers = Array.from({ length: 16 }, (_, index) => index + 1);

/** The machine below the lifecycle. It outlives a host agent that is started again. */
export class FakeMachine {
  readonly vms = new Map<
    string,
    { end: (reason: string) => void; exited: Promise<string>; pid: number; frozen: boolean }
  >();
  readonly disks = new Set<string>();
  /** Bytes that guests have written in this life, by directory. */
  readonly written = new Map<string, number>();
  readonly slots = new Set<number>();
  readonly order: string[] = [];
  bootGate: Promise<void> = Promise.resolve();
  readyGate: Promise<void> = Promise.resolve();
  /** Holds up every look at a console. */
  consoleGate: Promise<void> = Promise.resolve();
  killFails = 0;
  /** Set to make the step of a pause fail that has this name, once. */
  failing: string | undefined;
  failure = (message: string) => new Error(message);
  /** What guests of saved states were booted from, by sandbox, where that is another than the host's. */
  readonly bootedOf = new Map<string, { kernel: string; initramfs: string }>();
  /** Checkpoints that were captured last, by sandbox. */
  readonly captured = new Map<string, { checkpoint: number; identity: HeldIdentity; memory?: boolean }>();
  /** Holds a pause up after the guest was stopped. */
  captureGate: Promise<void> = Promise.resolve();
  /** Holds up what guest agents are asked about their disks. */
  diskGate: Promise<void> = Promise.resolve();
  /** Resolves when guests stand still for want of room on the host's disk. */
  lacksRoom = new Promise<void>(() => {});
  /** Guests that were booted from power-on. */
  booted = 0;
  /** The words that guests were told. */
  readonly told: GuestIdentity[] = [];
  #pid = 1;

  monitor: VmMonitor = {
    machine: aMachine,
    overheadMb: () => 64,
    diskMb: ({ memoryMb }) => memoryMb,
    takenBytes: async () => 0,
    recognises: () => true,
    boot: async ({ dir }, started) => {
      await this.bootGate;
      this.booted++;
      return this.#start(dir, false, started);
    },
    restore: async ({ dir }, _, started) => {
      await this.bootGate;
      return this.#start(dir, true, started);
    },
    adopt: async ({ dir }) => (this.vms.has(dir) ? this.#vm(dir) : undefined),
    unowned: async () => [],
  };

  /** What the guest agent is asked about its disk. */
  tell(name: string): Promise<void> {
    this.#step(name);
    return this.diskGate;
  }

  #start(dir: string, frozen: boolean, started: Started | undefined): Vm {
    const { promise: exited, resolve: end } = Promise.withResolvers<string>();
    this.vms.set(dir, { end, exited, pid: this.#pid++, frozen });
    const vm = this.#vm(dir);
    started?.(vm.processes);
    return vm;
  }

  #step(name: string): void {
    this.order.push(name);
    if (this.failing !== name) return;
    this.failing = undefined;
    throw this.failure(`cannot ${name}`);
  }

  #vm(dir: string): Vm {
    const vm = this.vms.get(dir);
    if (!vm) throw new Error(`no VM in ${dir}`);
    return {
      processes: [{ pid: vm.pid, startTime: 1 }],
      exited: vm.exited,
      console: async () => {
        await this.consoleGate;
        return Buffer.from('console');
      },
      keptConsole: () => Buffer.from('kept'),
      kill: async () => {
        if (this.killFails-- > 0) throw new Error('cannot kill');
        this.order.push('monitor');
        this.vms.delete(dir);
        vm.end('killed');
      },
      release: () => {},
      freeze: async () => {
        this.#step('freeze');
        vm.frozen = true;
      },
      thaw: async () => {
        this.#step('thaw');
        vm.frozen = false;
      },
      isFrozen: async () => vm.frozen,
      room: { lacks: false, watch: () => {}, untilLacks: () => this.lacksRoom },
      unsavedBytesAtMost: async () => 0,
    } as unknown as Vm;
  }

  disk: DiskBackend = {
    capabilities: {
      ...{ format: 'qcow2', opens: 'block', sharesLayers: true, online: 'clone', takesRoom: 'written' },
    },
    create: async ({ dir }) => {
      this.disks.add(dir);
      return diskIn(dir);
    },
    adopt: async ({ dir }) => {
      if (!this.disks.has(dir)) throw new DiskGone(`nothing is in ${dir}`);
      return diskIn(dir);
    },
    unowned: async () => [],
    mergeNeed: async () => (this.isFull ? 'now' : undefined),
    prepareCapture: async () => ({ holdStill: async () => {}, write: async (parent) => parent }),
    lossOf: ({ dir }) => (this.disks.has(dir) ? undefined : new DiskGone(`nothing is in ${dir}`)),
    takenBytes: async ({ dir }) => this.written.get(dir) ?? 0,
    copyBytes: async () => 0,
    promisedBytes: (sizeBytes) => sizeBytes,
    settle: async () => {},
    flatten: async () => '/flat',
    merge: async () => '/merged',
    remove: async ({ dir }) => {
      this.order.push('disk');
      this.disks.delete(dir);
    },
  };

  /** Whether a guest of each shape was booted before. */
  isBooted = true;

  bootSnapshots: Pick<BootSnapshots, 'start' | 'use'> = {
    start: async () => {},
    use: async (shape, boot, use, signal) => {
      if (!this.isBooted) await Promise.race([boot(shape, async () => this.#step('keep')), aborted(signal)]);
      this.isBooted = true;
      return use({ directory: new SnapshotDirectory('/boot-snapshots') } as Snapshot);
    },
  };

  saved: StateStore = {
    start: async () => [],
    assertRoom: async () => this.#step('find room'),
    assertCopyRoom: async () => this.#step('find room'),
    capture: async ({ record, vm, identity, signal, kind, memory, hold }) => {
      await hold?.();
      await vm.freeze();
      await this.captureGate;
      signal.throwIfAborted();
      this.#step('write');
      if (kind === 'snapshot') await vm.thaw();
      this.captured.set(record.id, { checkpoint: record.captures, identity, memory });
      this.#step('answer');
      return { ...(hold ? { hold: 1 } : {}), freeze: 1, total: 2 };
    },
    isComplete: async (id, checkpoint) => this.captured.get(id)?.checkpoint === checkpoint,
    drop: async (id, checkpoint) => {
      if (this.captured.get(id)?.checkpoint === checkpoint) this.captured.delete(id);
    },
    settle: async () => {},
    prune: async () => {},
    history: async () => [],
    copy: async () => this.#step('copy'),
    linkStart: async (id) => {
      this.#step('begin');
      this.captured.set(id, { checkpoint: 0, identity: { accessToken: 'boot', number: 1 } });
      return this.saved.open(id, 0);
    },
    directory: (id, checkpoint) => new SnapshotDirectory(join('/nowhere', id, `${checkpoint}`)),
    open: async (id, _checkpoint, memory) => {
      this.#step('open');
      const captured = this.captured.get(id);
      if (!captured) throw new Error(`nothing is captured of ${id}`);
      return {
        vm:
          memory !== false && captured.memory !== false
            ? { image: this.memory, devices: '/devices' }
            : undefined,
        disk: { format: this.layerFormat, base: '/base', layers: ['/layer'] },
        identity: captured.identity,
        booted: this.bootedOf.get(id) ?? { kernel: 'b'.repeat(64), initramfs: 'c'.repeat(64) },
      };
    },
    moveAll: async (from, to) => {
      const captured = this.captured.get(from);
      this.captured.delete(from);
      if (captured) this.captured.set(to, captured);
    },
    removeAll: async (id) => {
      this.captured.delete(id);
    },
    paths: async () => [],
    scratch: async () => ({ path: '/scratch', [Symbol.asyncDispose]: async () => {} }),
  };

  /** Of the layers of all states. */
  layerFormat: LayerFormat = 'qcow2';
  /** Of all states that have one. */
  memory = aMemory;
  /** Whether no disk may get more layers. */
  isFull = false;
  /** The merge of a checkpoint; there is nothing to merge unless a test sets it. */
  merge: MergeCheckpoint = async () => undefined;

  network(): NetworkLayer {
    const describe = (number: number): Slot => ({
      number,
      namespace: `ns${number}`,
      tap: 'tap0',
      mac: '02:fc:00:00:00:05',
      address: `10.0.0.${number}`,
      uid: process.getuid?.() ?? 0,
    });
    return {
      start: async (inUse) => {
        for (const slot of this.slots) if (!inUse.includes(slot)) this.slots.delete(slot);
      },
      acquire: async () => {
        const number = slotNumbers.find((one) => !this.slots.has(one));
        if (number === undefined) throw new Error('no slot is free');
        this.slots.add(number);
        return describe(number);
      },
      describe,
      slotOf: () => undefined,
      unowned: async () => [],
      release: async (number) => {
        this.order.push('slot');
        this.slots.delete(number);
      },
      counts: () => ({ total: slotNumbers.length, used: this.slots.size, ready: 0 }),
      stop: async () => {},
    };
  }
}

export async function host(
  machine = new FakeMachine(),
  { readyGuests = 0, readyMost = 0, memoryMb = 1000, bootTimeoutMs = 1000, mergeQuietMs = 0 } = {},
) {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-lifecycle-'));
  const vmsDir = join(dir.path, 'vms');
  const open = async () => {
    const journal = new Journal(join(dir.path, 'journal.db'));
    const room = new DiskRoom({ dir: dir.path, keepMb: 0 });
    const lifecycle = new Lifecycle({
      journal,
      machine: aMachine,
      network: machine.network(),
      disks: machine.disk,
      monitor: machine.monitor,
      guest: {
        waitForAgent: (_address, signal) => Promise.race([machine.readyGate, aborted(signal)]),
        warmUp: async () => {
          machine.order.push('warm up');
        },
        writeOut: async () => machine.tell('write out'),
        holdDisk: async () => machine.tell('hold the disk'),
        letGoOfDisk: async () => machine.tell('let go of the disk'),
        giveIdentity: async (_address, identity, signal) => {
          await Promise.race([machine.readyGate, aborted(signal)]);
          machine.told.push(identity);
        },
      },
      images: {
        find: (name: string) =>
          name === 'base'
            ? { name, contentId: 'a'.repeat(64), sizeBytes: 32 * 2 ** 20, rootfs: '/base' }
            : undefined,
        assertWhole: async () => {},
      } as unknown as ImageStore,
      admission: new Admission({ memoryMb, monitor: machine.monitor, room, disks: machine.disk }),
      room,
      vmsDir,
      diskRoots: [dir.path],
      saved: machine.saved,
      bootSnapshots: machine.bootSnapshots,
      snapshots: new SnapshotStore({ dir: join(dir.path, 'snapshots'), log: pino({ level: 'silent' }) }),
      boot: { kernel: '/k', initramfs: '/i', kernelId: 'b'.repeat(64), initramfsId: 'c'.repeat(64) },
      bootTimeoutMs,
      ready: { guests: readyGuests, most: Math.max(readyGuests, readyMost), mayGrow: () => true },
      merges: { merge: (...args) => machine.merge(...args), quietMs: mergeQuietMs },
      log: pino({ level: 'silent' }),
    });
    await lifecycle.start();
    return { lifecycle, journal };
  };
  let { lifecycle, journal } = await open();
  return {
    machine,
    vmsDir,
    get lifecycle() {
      return lifecycle;
    },
    get journal() {
      return journal;
    },
    /** The state that a new process finds after the old one was killed between any two steps. */
    async restart() {
      void lifecycle.letGo();
      journal.close();
      ({ lifecycle, journal } = await open());
    },
    [Symbol.asyncDispose]: async () => {
      await lifecycle.stop();
      journal.close();
      await dir.remove();
    },
  };
}

export function seen(lifecycle: Lifecycle, id: string, status: string): Promise<HostSandbox> {
  const { promise, resolve } = Promise.withResolvers<HostSandbox>();
  const stop = lifecycle.watch((sandbox) => {
    if (sandbox.id !== id || sandbox.status !== status) return;
    stop();
    resolve(sandbox);
  });
  return promise;
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
}

export const id = `sb${'a'.repeat(18)}`;

export function nothingLeft(machine: FakeMachine, vmsDir: string) {
  expect([...machine.vms.keys(), ...machine.disks, ...machine.slots]).toEqual([]);
  expect(existsSync(join(vmsDir, id))).toBe(false);
}

/** The next transition to this state cannot be written. */
export function failOnce(journal: Journal, to: HostState): void {
  const transition = journal.transition.bind(journal);
  let fails = true;
  vi.spyOn(journal, 'transition').mockImplementation((of, state, detail) => {
    if (fails && state === to) {
      fails = false;
      throw new Error('cannot write');
    }
    transition(of, state, detail);
  });
}
