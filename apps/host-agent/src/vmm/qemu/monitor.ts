/** The QEMU back end: starts monitors and finds them again. */
import type { ChildProcess } from 'node:child_process';
import { realpath } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { failpoint } from '../../failpoints/index.ts';
import {
  type Cgroups,
  cpuFingerprint,
  isAlive,
  type Leftover,
  measureTscKhz,
  openCgroups,
  processesOfUid,
  readProcess,
  workingDirectory,
} from '../../linux/index.ts';
import type { MonitorMachine, ProcessRef, Vm, VmIdentity, VmMonitor, VmSpec, VmState } from '../monitor.ts';
import { type Accelerator, emulatedCpu, translationBufferMb } from './arguments.ts';
import { kernelArguments } from './kernel-arguments.ts';
import { launch, taskLimit } from './launch.ts';
import type { QmpClient } from './qmp/index.ts';
import { QemuVm } from './vm.ts';
import { clearDirectory, fileNames, prepareDirectory } from './vm-directory.ts';

export interface QemuMonitorOptions {
  /** Short id of the data directory; part of the cgroups' names. */
  instance: string;
  accelerator: Accelerator;
  /** Of QEMU. */
  version: string;
  log: Logger;
}

/** From exec to an answer on QMP takes 50 ms; on a machine that starts many at once, seconds. */
const startTimeoutMs = 30_000;
const adoptTimeoutMs = 3000;
/** Device state is loaded in a few milliseconds. */
const loadPollMs = 2;

/**
 * MiB of host memory that a VM may use beside the guest's own: 60 for QEMU itself, disk caches, and under TCG
 * the translated code.
 */
export function overheadMb(accelerator: Accelerator): number {
  return accelerator === 'tcg' ? 128 + translationBufferMb : 128;
}

/**
 * CPU time for QEMU's own threads. Without it a guest at full load is stopped at the end of each period, and
 * its disk, network and QMP with it: 0.1 s of the boot.
 */
const deviceCpus = 0.1;

export async function createQemuMonitor(options: QemuMonitorOptions): Promise<VmMonitor> {
  const cgroups = await openCgroups();
  if (cgroups.missing.length > 0) {
    options.log.warn({ missing: cgroups.missing }, 'this machine cannot limit what a VM monitor uses');
  }
  return new Qemu(options, cgroups, findKernelArguments(options));
}

async function findKernelArguments({ accelerator, log }: QemuMonitorOptions): Promise<string> {
  if (accelerator === 'kvm') return kernelArguments({ accelerator });
  const tscKhz = await measureTscKhz();
  if (tscKhz === undefined) {
    log.warn('the time stamp counter cannot be measured: guests may hang when they start');
  }
  return kernelArguments({ accelerator, tscKhz });
}

class Qemu implements VmMonitor {
  readonly kind = 'qemu';
  readonly machine: MonitorMachine;
  readonly #options: QemuMonitorOptions;
  readonly #cgroups: Cgroups;
  /** Takes a while to find, which only the first machine may have to wait for. */
  readonly #kernelArguments: Promise<string>;

  constructor(options: QemuMonitorOptions, cgroups: Cgroups, found: Promise<string>) {
    this.#options = options;
    const { version, accelerator } = options;
    const cpu = accelerator === 'tcg' ? emulatedCpu : cpuFingerprint();
    this.machine = { kind: this.kind, version, accelerator, cpu };
    this.#cgroups = cgroups;
    this.#kernelArguments = found;
    // Who starts a machine is told.
    found.catch(() => {});
  }

  boot(spec: VmSpec): Promise<Vm> {
    return this.#launch(spec, undefined, begin);
  }

  restore(spec: VmSpec, state: VmState): Promise<Vm> {
    return this.#launch(spec, state, (vm, laps) => load(vm, laps, state));
  }

  async #launch(spec: VmSpec, state: VmState | undefined, start: Start): Promise<Vm> {
    const laps = new Laps();
    const cgroup = this.#cgroup(spec.id);
    const log = await prepareDirectory(spec.dir, { ...spec, state });
    let vm: QemuVm | undefined;
    try {
      await this.#cgroups.create(cgroup, this.#limits(spec));
      failpoint('monitor.cgroup');
      laps.lap('files');
      const { child, process } = await launch({
        dir: spec.dir,
        uid: spec.uid,
        log: log.fd,
        machine: {
          ...{ name: `${this.#parent}-${spec.id}`, kernelArguments: await this.#kernelArguments },
          ...{ accelerator: this.#options.accelerator, vcpus: spec.vcpus, memoryMb: spec.memoryMb },
          disk: spec.disk,
          incoming: state !== undefined,
        },
        network: spec.network,
        maxFileBytes: spec.disk.maxFileBytes,
      });
      vm = this.#running(spec, process, child);
      failpoint('monitor.spawned');
      await vm.whileAlive(this.#cgroups.add(cgroup, process.pid));
      laps.lap('spawn');
      await vm.whileAlive(start(vm, laps));
      Object.assign(vm.timings, laps.times);
      return vm;
    } catch (cause) {
      // Nothing of a process that cannot be ended may be taken away under it.
      await vm?.kill();
      await Promise.allSettled([this.#cgroups.remove(cgroup), clearDirectory(spec.dir)]);
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`The VM monitor of ${spec.id} did not start: ${why}`, { cause });
    } finally {
      await log.close();
    }
  }

  async adopt(spec: VmIdentity, known: ProcessRef | undefined): Promise<Vm | undefined> {
    const process = await findProcess(spec, known);
    if (!process) {
      await this.#cgroups.remove(this.#cgroup(spec.id));
      return undefined;
    }
    const vm = this.#running(spec, process);
    await vm.status(AbortSignal.timeout(adoptTimeoutMs)).catch((err: unknown) => {
      this.#options.log.warn(
        { err, id: spec.id, pid: process.pid },
        'a VM monitor lives and does not answer',
      );
    });
    return vm;
  }

  async unowned(owned: () => ReadonlySet<string>): Promise<Leftover[]> {
    const existing = await this.#cgroups.list(this.#parent);
    const known = owned();
    return existing
      .filter((id) => !known.has(id))
      .map((id) => this.#cgroup(id))
      .map((path) => ({ what: `cgroup ${path}`, remove: () => this.#cgroups.remove(path) }));
  }

  #running({ id, dir, uid }: VmIdentity, process: ProcessRef, child?: ChildProcess) {
    const log = this.#options.log.child({ sandbox: id });
    const base = { process, dir, uid, cgroup: this.#cgroup(id), cgroups: this.#cgroups, log };
    return new QemuVm(child ? { ...base, child } : base);
  }

  #limits(spec: VmSpec) {
    return {
      memoryBytes: (spec.memoryMb + overheadMb(this.#options.accelerator)) * 2 ** 20,
      cpus: spec.vcpus + deviceCpus,
      tasks: taskLimit(spec.vcpus),
    };
  }

  get #parent(): string {
    return `perch-${this.#options.instance}`;
  }

  #cgroup(id: string): string {
    return `${this.#parent}/${id}`;
  }
}

type Start = (vm: QemuVm, laps: Laps) => Promise<void>;

/** The machine is there and stopped; let it go. */
async function begin(vm: QemuVm, laps: Laps): Promise<void> {
  const qmp = await connected(vm, laps, 'prelaunch');
  await qmp.execute('cont');
  laps.lap('cont');
}

/** The machine waits for the state of another. */
async function load(vm: QemuVm, laps: Laps, state: VmState): Promise<void> {
  const qmp = await connected(vm, laps, 'inmigrate');
  await state.fill?.(vm.memory());
  laps.lap('memory');
  await qmp.execute('migrate-incoming', { uri: `file:${fileNames.snapfile}` });
  const signal = AbortSignal.timeout(startTimeoutMs);
  for (;;) {
    const status = await vm.status(signal);
    if (status === 'paused') break;
    if (status !== 'inmigrate') throw new Error(`the machine is ${status}, not paused`);
    await sleep(loadPollMs, undefined, { signal });
  }
  laps.lap('devices');
}

async function connected(vm: QemuVm, laps: Laps, expected: string): Promise<QmpClient> {
  const signal = AbortSignal.timeout(startTimeoutMs);
  const qmp = await vm.connect(signal);
  const status = await vm.status(signal);
  laps.lap('qmp');
  if (status !== expected) throw new Error(`the machine is ${status}, not ${expected}`);
  return qmp;
}

/**
 * A monitor is told by its user, which no other program on the machine has, and its working directory. A
 * process that was started and has not yet become the monitor's user is not found: that lasts some ten
 * milliseconds, less than it takes us to start again.
 */
async function findProcess(spec: VmIdentity, known: ProcessRef | undefined): Promise<ProcessRef | undefined> {
  if (known && isAlive(known) && readProcess(known.pid)?.uid === spec.uid) return known;
  const dir = await realpath(spec.dir).catch(() => undefined);
  const found = processesOfUid(spec.uid).find(({ pid }) => workingDirectory(pid) === dir);
  return found && { pid: found.pid, startTime: found.startTime };
}

class Laps {
  readonly times: Record<string, number> = {};
  #last = performance.now();

  lap(name: string): void {
    const now = performance.now();
    this.times[name] = Math.round((now - this.#last) * 10) / 10;
    this.#last = now;
  }
}
