/** The Firecracker back end: starts monitors in their jails and finds them again. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findFirecracker, isDiskFull } from '@perch/node-kit';
import type { Logger } from 'pino';
import { failpoint } from '../../failpoints/index.ts';
import { cpuFingerprint, endProcess, hasClones, type Leftover, type ProcessRef } from '../../linux/index.ts';
import { isOneFile, type MemoryImage } from '../../snapshot/index.ts';
import { type Counted, Counters } from '../counters.ts';
import type {
  IoLimits,
  MonitorCapabilities,
  Started,
  Vm,
  VmIdentity,
  VmMonitor,
  VmSpec,
  VmState,
} from '../monitor.ts';
import {
  clearPager,
  keepWorkingSet,
  type Prefetch,
  pagerSocket,
  type StartedPager,
  startPager,
  WorkingSets,
} from '../pager/index.ts';
import { createLog, findProcess, logName, notStarted, VmLimits } from '../process/index.ts';
import { bootArguments } from './boot-arguments.ts';
import { consoleName, makeConsole } from './console.ts';
import { jailRoot, makeJail, removeJail } from './jail.ts';
import { launch, type Programs, taskLimit } from './launch.ts';
import { copiedBytes, placeMemory } from './memory.ts';
import { type MemoryMeans, mayCopy, meansLacking, memoryWay, type RestoreSetting } from './memory-way.ts';
import { bootRequests, count, limitRequests, loadRequest, start } from './requests.ts';
import { FirecrackerVm, maxDeviceState, type RunningVm } from './vm.ts';

export const firecrackerCapabilities: MonitorCapabilities = {
  differences: 'parent',
  memory: 'chosen',
  waitsForRoom: false,
  takesFiles: false,
  limitsIo: true,
};

export interface FirecrackerOptions {
  /** Short id of the data directory; part of the cgroups' names. */
  instance: string;
  /** Of Firecracker. */
  version: string;
  restore: RestoreSetting;
  /** On the file system of all states and VMs. */
  dir: string;
  /** perch-pager, if there is one: root-owned, 0555, on that file system. */
  pager?: string | undefined;
  /** Nothing is put in place ahead without a limit above 0. */
  prefetch: Prefetch;
  /** Of each guest. */
  limits: IoLimits;
  log: Logger;
}

/** Through the jailer to an answer of the API takes 0.2 s; on a machine that starts many at once, seconds. */
const startTimeoutMs = 30_000;
const adoptTimeoutMs = 3000;
/** A guest that ends at once does so within this time. A boot takes longer. */
const atOnceMs = 1000;
const atOnceLooksMs = 50;
/** Its own 5 MiB, and the memfile's pages in the page cache while they are read. */
const overheadMb = 64;
/** CPU time for its own threads: without it a guest at full load holds up its disk and network. */
const deviceCpus = 0.1;

/** SNAPSHOT_MAGIC_ID of Firecracker for x86-64, as state files begin: the lower bytes first. */
const stateMagic = Buffer.from([0, 0, 0x64, 0x86, 0x84, 0x19, 0x10, 0x07]);

export async function createFirecrackerMonitor(options: FirecrackerOptions): Promise<VmMonitor> {
  const { programs, stateFormat, problem } = await findFirecracker();
  if (problem) throw new Error(`This host runs Firecracker, and ${problem.what}: ${problem.remedy}`);
  const { restore: setting, dir, pager } = options;
  const means = { setting, hasReflinks: await hasReflinks(dir), hasPager: pager !== undefined };
  const lacking = meansLacking(means);
  if (lacking !== undefined) throw new Error(lacking);
  const limits = await VmLimits.open(options.instance, options.log);
  return new Firecracker(options, { programs, stateFormat, means, limits });
}

/** A disk that is full says nothing of itself. */
async function hasReflinks(dir: string): Promise<boolean> {
  try {
    return await hasClones(dir);
  } catch (error) {
    if (isDiskFull(error)) return false;
    throw error;
  }
}

type ProvidedMemory = Pick<RunningVm, 'pager' | 'memoryWay' | 'keepWorkingSet'>;

interface Host {
  programs: Programs;
  stateFormat: string;
  means: MemoryMeans;
  limits: VmLimits;
}

class Firecracker implements VmMonitor {
  readonly machine: VmMonitor['machine'];
  readonly #options: FirecrackerOptions;
  readonly #programs: Programs;
  readonly #means: MemoryMeans;
  readonly #limits: VmLimits;
  readonly #counters = new Counters();
  readonly #workingSets: WorkingSets | undefined;

  constructor(options: FirecrackerOptions, { programs, stateFormat, means, limits }: Host) {
    this.#options = options;
    this.#programs = programs;
    this.#means = means;
    this.#limits = limits;
    const { prefetch } = options;
    this.#workingSets = prefetch.limitMib > 0 ? new WorkingSets(prefetch) : undefined;
    const { version } = options;
    const monitor = { kind: 'firecracker', version, accelerator: 'kvm' } as const;
    this.machine = {
      monitor: stateFormat === '' ? monitor : { ...monitor, state_format: stateFormat },
      cpu: cpuFingerprint(),
    };
  }

  overheadMb(): number {
    return overheadMb;
  }

  /** A pause has the memory twice for a moment: as Firecracker writes it, and as it is kept. */
  diskMb({ memoryMb }: Pick<VmSpec, 'memoryMb'>): number {
    return memoryMb * (mayCopy(this.#means) ? 3 : 2);
  }

  takenBytes(vm: Pick<VmIdentity, 'id' | 'dir'>): Promise<number> {
    return mayCopy(this.#means) ? copiedBytes(vm) : Promise.resolve(0);
  }

  counted(): Counted[] {
    return this.#counters.list();
  }

  recognises(deviceState: Buffer): boolean {
    return deviceState.subarray(0, stateMagic.length).equals(stateMagic);
  }

  /** One boot in some hundred ends before the guest has said a word, without a reason: it is begun once more. */
  async boot(spec: VmSpec, started?: Started): Promise<Vm> {
    try {
      return await this.#boot(spec, started);
    } catch (err) {
      if (!(err instanceof Error) || !(err.cause instanceof EndedAtOnce)) throw err;
      this.#options.log.warn(
        { err, id: spec.id },
        'a guest ended as soon as it was started, and is started again',
      );
      return await this.#boot(spec, started);
    }
  }

  #boot(spec: VmSpec, started: Started | undefined): Promise<Vm> {
    const begin = async (vm: FirecrackerVm) => {
      const { vcpus, memoryMb, network } = spec;
      const machine = { vcpus, memoryMb, network, kernelArguments: bootArguments() };
      for (const request of bootRequests(machine)) await vm.send(request);
      await vm.send(start, startTimeoutMs);
      vm.booted();
      if (Object.values(this.#options.limits).some((limit) => limit !== undefined)) {
        await this.#limit(vm).catch(async (error: unknown) => {
          // A guest that has ended takes no limits, and is started again.
          await outlivesStart(vm);
          throw error;
        });
      }
      await outlivesStart(vm);
    };
    return this.#launch(spec, undefined, begin, started);
  }

  restore(spec: VmSpec, state: VmState, started?: Started): Promise<Vm> {
    const load = async (vm: FirecrackerVm) => {
      const memory = vm.memoryWay?.name === 'paged' ? 'Uffd' : 'File';
      await vm.send(loadRequest(spec.network.tap, memory), startTimeoutMs);
      // Whoever connects is served once.
      await rm(join(jailRoot(spec), pagerSocket), { force: true });
      await this.#limit(vm);
      vm.restoredFrom(state.image.header.build);
    };
    return this.#launch(spec, state, load, started);
  }

  async #limit(vm: FirecrackerVm): Promise<void> {
    for (const request of limitRequests(this.#options.limits)) await vm.send(request);
  }

  async #launch(
    spec: VmSpec,
    state: VmState | undefined,
    begin: (vm: FirecrackerVm) => Promise<void>,
    started: Started | undefined,
  ): Promise<Vm> {
    if (spec.disk.kind !== 'block')
      throw new Error('Firecracker opens block devices only; start with PERCH_ROOTFS=device-mapper');
    const cgroup = this.#limits.of(spec.id);
    const { id, dir, uid, kernel, initramfs, vcpus, memoryMb, network } = spec;
    const jail = { kernel, initramfs, disk: spec.disk.path, state, uid };
    await makeJail(spec, jail).catch((cause: unknown) => {
      throw notStarted(id, cause);
    });
    let vm: FirecrackerVm | undefined;
    let memory: ProvidedMemory | undefined;
    try {
      await using console = await makeConsole(dir);
      await using log = await createLog(dir);
      await cgroup.create({
        ...{
          memoryBytes: (memoryMb + overheadMb) * 2 ** 20,
          cpus: vcpus + deviceCpus,
          tasks: taskLimit(vcpus),
        },
      });
      failpoint('monitor.cgroup');
      memory = state && (await this.#provide(spec, state, log.fd));
      const { child, process } = await launch({
        ...{ id, dir, uid, vcpus, network, programs: this.#programs, console: console.fd, log: log.fd },
        maxFileBytes: Math.max(memoryMb * 2 ** 20, maxDeviceState),
      });
      vm = this.#running(spec, { process, child, ...memory });
      failpoint('monitor.spawned');
      started?.(vm.processes);
      for (const one of vm.processes) await vm.whileAlive(cgroup.add(one));
      await vm.whileAlive(vm.connect(AbortSignal.timeout(startTimeoutMs)));
      await vm.send(count);
      await begin(vm);
      return vm;
    } catch (cause) {
      // Nothing of a process that cannot be ended may be taken away under it.
      if (vm) await vm.kill();
      else if (memory?.pager) await endProcess(memory.pager.process);
      await Promise.allSettled([cgroup.remove(), clearDirectory(spec)]);
      throw notStarted(id, cause);
    }
  }

  async adopt(spec: VmIdentity, known: readonly ProcessRef[]): Promise<Vm | undefined> {
    const process = findProcess(spec.uid, known[0], jailRoot(spec));
    // The journal gets both at once. One that is gone is watched too: its end is the end of the VM.
    const pager = known.length > 0 ? known[1] : findProcess(spec.uid, undefined, spec.dir);
    if (!process) {
      if (pager) await endProcess(pager);
      await this.#limits.of(spec.id).remove();
      return undefined;
    }
    const vm = this.#running(spec, { process, pager: pager && { process: pager } });
    await vm.connect(AbortSignal.timeout(adoptTimeoutMs)).catch((err: unknown) => {
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

  /** Has the memory of a state in the jail, or served there. */
  async #provide(spec: VmSpec, { image }: VmState, log: number): Promise<ProvidedMemory> {
    const start = performance.now();
    const way = memoryWay(this.#means, isOneFile(image));
    const pager = way === 'paged' ? await this.#startPager(spec, image, log) : undefined;
    if (way !== 'paged') await placeMemory(spec, image, way);
    const [sets, { build }] = [this.#workingSets, image.header];
    const keep = pager && sets && (() => keepWorkingSet(sets, build, spec.dir));
    return { pager, keepWorkingSet: keep, memoryWay: { name: way, ms: performance.now() - start } };
  }

  #startPager(spec: VmSpec, image: MemoryImage, log: number): Promise<StartedPager> {
    const { dir, uid, network, vcpus } = spec;
    const program = this.#options.pager;
    if (program === undefined) throw new Error('there is no pager');
    const maxTasks = taskLimit(vcpus);
    const workingSets = this.#workingSets;
    return startPager({
      ...{ dir, uid, network, program, image, socketDir: jailRoot(spec), log, maxTasks, workingSets },
    });
  }

  #running(
    { id, dir, uid }: VmIdentity,
    started: Pick<RunningVm, 'process' | 'child' | 'pager' | 'memoryWay' | 'keepWorkingSet'>,
  ) {
    const log = this.#options.log.child({ sandbox: id });
    const [cgroup, counters] = [this.#limits.of(id), this.#counters];
    return new FirecrackerVm({ id, dir, uid, ...started, cgroup, counters, log });
  }
}

/** A guest that ended before it said anything. */
class EndedAtOnce extends Error {
  override readonly name = 'EndedAtOnce';
}

/** Resolves once the guest has said something, or has had its time. @throws EndedAtOnce */
async function outlivesStart(vm: FirecrackerVm): Promise<void> {
  const over = new AbortController();
  const ended = vm.exited.then((reason) => {
    if (vm.keptConsole().length === 0) throw new EndedAtOnce(reason);
  });
  try {
    await Promise.race([ended, hasSaid(vm, over.signal)]);
  } finally {
    over.abort();
  }
}

async function hasSaid(vm: FirecrackerVm, over: AbortSignal): Promise<void> {
  for (const until = performance.now() + atOnceMs; performance.now() < until && !over.aborted; ) {
    if ((await vm.console()).length > 0) return;
    await sleep(atOnceLooksMs);
  }
}

/** The monitor must be gone. */
async function clearDirectory({ id, dir }: VmIdentity): Promise<void> {
  await removeJail({ id, dir });
  await clearPager(dir);
  for (const name of [consoleName, logName]) await rm(join(dir, name), { force: true });
}
