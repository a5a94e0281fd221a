/** The QEMU back end: starts monitors and finds them again. */
import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Accelerator } from '@perch/protocol';
import type { Logger } from 'pino';
import type { VmDisk } from '../../disk/index.ts';
import { failpoint } from '../../failpoints/index.ts';
import { cpuFingerprint, type Leftover, measureTscKhz, type ProcessRef } from '../../linux/index.ts';
import { kernelArguments } from '../kernel-arguments.ts';
import type { MonitorCapabilities, Started, Vm, VmIdentity, VmMonitor, VmSpec, VmState } from '../monitor.ts';
import { findProcess, notStarted, type VmCgroup, VmLimits } from '../process/index.ts';
import { emulatedCpu, translationBufferMb } from './arguments.ts';
import { fill } from './fill.ts';
import { launch, taskLimit } from './launch.ts';
import { QemuVm } from './vm.ts';
import { clearDirectory, fileNames, maxDeviceState, prepareDirectory } from './vm-directory.ts';

export const qemuCapabilities: MonitorCapabilities = {
  differences: 'mapped-file',
  memory: 'mapped',
  waitsForRoom: true,
  takesFiles: true,
  limitsIo: false,
};

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

/** QEMU_VM_FILE_MAGIC of migration/qemu-file.h: what device state begins with. */
const deviceStateMagic = 'QEVM';

/**
 * CPU time for QEMU's own threads. Without it a guest at full load is stopped at the end of each period, and
 * its disk, network and QMP with it: 0.1 s of the boot.
 */
const deviceCpus = 0.1;

export async function createQemuMonitor(options: QemuMonitorOptions): Promise<VmMonitor> {
  const limits = await VmLimits.open(options.instance, options.log);
  return new Qemu(options, limits, findKernelArguments(options));
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
  readonly machine: VmMonitor['machine'];
  readonly #options: QemuMonitorOptions;
  readonly #limits: VmLimits;
  /** Takes a while to find, which only the first machine may have to wait for. */
  readonly #kernelArguments: Promise<string>;

  constructor(options: QemuMonitorOptions, limits: VmLimits, found: Promise<string>) {
    this.#options = options;
    const { version, accelerator } = options;
    const cpu = accelerator === 'tcg' ? emulatedCpu : cpuFingerprint();
    this.machine = { monitor: { kind: 'qemu', version, accelerator }, cpu };
    this.#limits = limits;
    this.#kernelArguments = found;
    // Who starts a machine is told.
    found.catch(() => {});
  }

  /** 60 MiB for QEMU itself, disk caches, and under TCG the translated code. */
  overheadMb(): number {
    return this.#options.accelerator === 'tcg' ? 128 + translationBufferMb : 128;
  }

  diskMb({ memoryMb }: Pick<VmSpec, 'memoryMb'>): number {
    return memoryMb;
  }

  takenBytes(): Promise<number> {
    return Promise.resolve(0);
  }

  recognises(deviceState: Buffer): boolean {
    return deviceState.toString('latin1', 0, deviceStateMagic.length) === deviceStateMagic;
  }

  boot(spec: VmSpec, started?: Started): Promise<Vm> {
    return this.#launch(spec, undefined, begin, started);
  }

  restore(spec: VmSpec, state: VmState, started?: Started): Promise<Vm> {
    return this.#launch(spec, state, (vm) => load(vm, state), started);
  }

  async #launch(
    spec: VmSpec,
    state: VmState | undefined,
    start: Start,
    started: Started | undefined,
  ): Promise<Vm> {
    const cgroup = this.#limits.of(spec.id);
    const log = await prepareDirectory(spec.dir, { ...spec, state });
    let vm: QemuVm | undefined;
    let limited: Promise<void> | undefined;
    try {
      const { child, process } = await launch({
        dir: spec.dir,
        uid: spec.uid,
        log: log.fd,
        machine: {
          ...{
            name: `perch-${this.#options.instance}-${spec.id}`,
            kernelArguments: await this.#kernelArguments,
          },
          ...{ accelerator: this.#options.accelerator, vcpus: spec.vcpus, memoryMb: spec.memoryMb },
          disk: spec.disk,
          incoming: state !== undefined,
        },
        network: spec.network,
        maxFileBytes: maxFileBytes(spec.disk),
      });
      vm = this.#running(spec, process, child);
      failpoint('monitor.spawned');
      started?.(vm.processes);
      // While QEMU starts, which takes longer: its guest does not run before it is limited.
      const signal = AbortSignal.timeout(startTimeoutMs);
      limited = this.#limit(cgroup, process, spec);
      await vm.whileAlive(Promise.all([limited, vm.connect(signal)]));
      await vm.whileAlive(start(vm));
      return vm;
    } catch (cause) {
      // Nothing of a process that cannot be ended may be taken away under it.
      await vm?.kill();
      // A group that is made late would stay.
      await limited?.catch(() => {});
      await Promise.allSettled([cgroup.remove(), clearDirectory(spec.dir)]);
      throw notStarted(spec.id, cause);
    } finally {
      await log.close();
    }
  }

  async adopt(spec: VmIdentity, known: readonly ProcessRef[]): Promise<Vm | undefined> {
    const process = findProcess(spec.uid, known[0], spec.dir);
    if (!process) {
      await this.#limits.of(spec.id).remove();
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

  unowned(owned: () => ReadonlySet<string>): Promise<Leftover[]> {
    return this.#limits.unowned(owned);
  }

  #running({ id, dir, uid }: VmIdentity, process: ProcessRef, child?: ChildProcess) {
    const log = this.#options.log.child({ sandbox: id });
    const base = { process, dir, uid, cgroup: this.#limits.of(id), log };
    return new QemuVm(child ? { ...base, child } : base);
  }

  async #limit(cgroup: VmCgroup, process: ProcessRef, spec: VmSpec): Promise<void> {
    await cgroup.create({
      memoryBytes: (spec.memoryMb + this.overheadMb()) * 2 ** 20,
      cpus: spec.vcpus + deviceCpus,
      tasks: taskLimit(spec.vcpus),
    });
    failpoint('monitor.cgroup');
    await cgroup.add(process);
  }
}

/** Of what the monitor writes: its disk where that is a file, and device state. */
function maxFileBytes(disk: VmDisk): number {
  return disk.kind === 'file' ? disk.maxFileBytes : maxDeviceState;
}

type Start = (vm: QemuVm) => Promise<void>;

/** The machine is there and stopped; let it go. */
async function begin(vm: QemuVm): Promise<void> {
  const signal = AbortSignal.timeout(startTimeoutMs);
  const qmp = await vm.connect(signal);
  const status = await vm.status(signal);
  if (status !== 'prelaunch') throw new Error(`the machine is ${status}, not prelaunch`);
  await qmp.execute('cont');
}

/** The machine waits for the state of another: else it would refuse that. */
async function load(vm: QemuVm, state: VmState): Promise<void> {
  const signal = AbortSignal.timeout(startTimeoutMs);
  const qmp = await vm.connect(signal);
  await fill(state.image, vm.memory().write);
  await qmp.execute('migrate-incoming', { uri: `file:${fileNames.snapfile}` });
  for (;;) {
    const status = await vm.status(signal);
    if (status === 'paused') break;
    if (status !== 'inmigrate') throw new Error(`the machine is ${status}, not paused`);
    await sleep(loadPollMs, undefined, { signal });
  }
}
