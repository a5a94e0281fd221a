/** One Firecracker that runs: started by us or found again, both in the same way. */
import type { ChildProcess } from 'node:child_process';
import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { quoted } from '@perch/node-kit';
import type { Logger } from 'pino';
import type { FileDisk } from '../../disk/index.ts';
import type { ProcessRef } from '../../linux/index.ts';
import type { BuildId } from '../../snapshot/index.ts';
import type { Counters } from '../counters.ts';
import type { SavedState, Vm } from '../monitor.ts';
import {
  ConsoleTail,
  guestRestarted,
  takeFile,
  type VmCgroup,
  type VmProcess,
  VmProcesses,
} from '../process/index.ts';
import { FirecrackerApi } from './api.ts';
import { drainConsole, openConsole } from './console.ts';
import { guestEnd, isHalted } from './guest-end.ts';
import { jailed, jailRoot } from './jail.ts';
import { type OpenDifference, takeDifference } from './memory-file.ts';
import { type ApiRequest, describe, flush, machineConfig, pause, resume, saveRequest } from './requests.ts';
import { VmCounts } from './vm-counts.ts';

/** Bytes of the console that are kept. */
const consoleBytes = 64 * 1024;
const commandTimeoutMs = 10_000;
/** It looks each second. */
const looksPerCount = 10;
/** A state with much changed memory is written by the thread that answers. */
const saveTimeoutMs = 120_000;
/** The most that device state takes: a machine of ours writes some 20 KiB. */
export const maxDeviceState = 16 * 2 ** 20;

/** Stands for the state that a guest which was booted has gone on from: there is none. */
const powerOn: BuildId = 'power-on';

export interface RunningVm {
  id: string;
  process: ProcessRef;
  dir: string;
  uid: number;
  cgroup: VmCgroup;
  /** Where what it counts is added. */
  counters: Counters;
  /** When we started it. */
  child?: ChildProcess;
  /** Of a guest whose memory is served. */
  pager?: Pick<VmProcess, 'process' | 'child'> | undefined;
  /** Of one with a pager that we started: what its guest asked for first is known after a while. */
  keepWorkingSet?: (() => Promise<void>) | undefined;
  /** As `Vm.memoryWay`. */
  memoryWay?: Vm['memoryWay'] | undefined;
  log: Logger;
}

export class FirecrackerVm implements Vm {
  readonly processes: readonly ProcessRef[];
  readonly exited: Promise<string>;
  readonly #of: RunningVm;
  readonly #running: VmProcesses;
  readonly #console = new ConsoleTail(consoleBytes);
  #draining: Promise<void> = Promise.resolve();
  readonly #counts: VmCounts;
  #looks = 0;
  #hasRun = false;
  #api: Promise<FirecrackerApi> | undefined;
  /** The state since which its next difference is: that it went on from or was saved as, or `powerOn`. */
  #since: BuildId | undefined;
  /** The memory of the last save, as long as it may be read. */
  #saved: OpenDifference | undefined;

  constructor(of: RunningVm) {
    this.#of = of;
    const { process, child, pager, dir, cgroup, log } = of;
    this.#running = new VmProcesses({
      processes: [
        { name: 'The VM monitor', process, child, endsWell: guestRestarted },
        ...(pager ? [{ name: 'The pager', ...pager, follows: true }] : []),
      ],
      ...{ dir, cgroup, log },
      onTick: () => void this.#look(),
      onEnd: () => this.#end(),
    });
    this.#counts = new VmCounts(of, child === undefined);
    this.processes = this.#running.refs;
    this.exited = this.#running.exited;
  }

  get memoryWay(): Vm['memoryWay'] {
    return this.#of.memoryWay;
  }

  /** As `VmProcesses.whileAlive`. */
  whileAlive<T>(work: Promise<T>): Promise<T> {
    return this.#running.whileAlive(work);
  }

  /** @param timeoutMs of its answer */
  async send(request: ApiRequest, timeoutMs = commandTimeoutMs): Promise<Record<string, unknown>> {
    const api = this.connect(AbortSignal.timeout(commandTimeoutMs));
    return await this.whileAlive(api.then((one) => one.send(request, timeoutMs)));
  }

  /** @throws as FirecrackerApi.open */
  connect(signal: AbortSignal): Promise<FirecrackerApi> {
    this.#api ??= this.#open(signal).catch((error: unknown) => {
      this.#api = undefined;
      throw error;
    });
    return this.#api;
  }

  #open(signal: AbortSignal): Promise<FirecrackerApi> {
    const { process, uid } = this.#of;
    return FirecrackerApi.open(
      { dir: jailRoot(this.#of), name: jailed.api.slice(1), pid: process.pid, uid },
      AbortSignal.any([signal, this.#running.gone]),
    );
  }

  /** The guest runs since its power-on. */
  booted(): void {
    this.#since = powerOn;
  }

  /** The guest went on from this state. */
  restoredFrom(build: BuildId): void {
    this.#since = build;
  }

  async console(): Promise<Buffer> {
    await this.#drain();
    return this.keptConsole();
  }

  keptConsole(): Buffer {
    return this.#console.last();
  }

  async freeze(): Promise<void> {
    await this.send(pause);
    await this.#writeOut();
  }

  /** All users of a block device share its pages, whoever asks. The jail is the monitor's: only a device is opened. */
  async #writeOut(): Promise<void> {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    await using disk = await open(join(jailRoot(this.#of), jailed.disk), flags);
    if (!(await disk.stat()).isBlockDevice()) throw new Error('The disk is not the device that was given');
    await disk.sync();
  }

  async thaw(): Promise<void> {
    await this.#dropSaved();
    await this.send(resume);
    this.#hasRun = true;
  }

  /** `InstanceInfo.state`. */
  async state(): Promise<string> {
    const { state } = await this.send(describe);
    return typeof state === 'string' ? quoted(state) : 'unknown';
  }

  async isFrozen(): Promise<boolean> {
    return (await this.state()) !== 'Running';
  }

  /**
   * Firecracker forgets with every save which pages were written. So a difference since another state than the last
   * one, which this process may not know, is one of all pages.
   */
  async saveState(build: BuildId, parent: BuildId | undefined): Promise<SavedState> {
    if (!(await this.isFrozen())) throw new Error('The guest is not stopped');
    const isSinceParent = this.#since !== undefined && this.#since === (parent ?? powerOn);
    // Whatever comes of it, the marks of this one are gone.
    this.#since = undefined;
    await this.#dropSaved();
    const root = jailRoot(this.#of);
    for (const name of [jailed.savedDevices, jailed.savedMemory]) await rm(join(root, name), { force: true });
    await this.send(saveRequest(isSinceParent ? 'Diff' : 'Full'), saveTimeoutMs);
    const { uid } = this.#of;
    this.#saved = await takeDifference(join(root, jailed.savedMemory), uid);
    const devices = await takeFile(join(root, jailed.savedDevices), uid, maxDeviceState, 'device state');
    this.#since = build;
    return { devices, memory: this.#saved.memory };
  }

  /**
   * All of its memory, for Firecracker tells nobody which pages were written; and twice, since its file is there until
   * it is copied.
   */
  async unsavedBytesAtMost(): Promise<number> {
    const { mem_size_mib: mib } = await this.send(machineConfig);
    if (typeof mib !== 'number') throw new Error('Firecracker does not tell the size of the memory');
    return 2 * mib * 2 ** 20;
  }

  prepareSwitch(_next: FileDisk): Promise<() => Promise<void>> {
    return Promise.reject(new Error('Firecracker has disks that are devices only'));
  }

  async kill(): Promise<void> {
    await this.#dropSaved();
    await this.#running.kill();
  }

  release(): void {
    this.#running.release();
    this.#close();
  }

  /** One after the other: what was read is kept in order. */
  #drain(): Promise<void> {
    this.#draining = this.#draining.then(async () => {
      try {
        await using file = await openConsole(this.#of.dir);
        await drainConsole(file, this.#console);
      } catch (err) {
        this.#of.log.debug({ err, pid: this.#of.process.pid }, 'the console cannot be read');
      }
    });
    return this.#draining;
  }

  /** Empties the console, so that the guest finds room there, and ends a guest that has powered off. */
  async #look(): Promise<void> {
    await this.#drain();
    if (this.#running.isOver) return;
    // A look may be slower than the next one.
    const look = ++this.#looks;
    if (look % looksPerCount === 0) await this.#count();
    if (look === looksPerCount) await this.#keepWorkingSet();
    if (!isHalted(this.keptConsole())) return;
    try {
      await this.#running.end();
    } catch (err) {
      this.#of.log.error(
        { err, pid: this.#of.process.pid },
        'the monitor of a guest that ended does not end',
      );
    }
  }

  /** A hint that cannot be kept is none. That of a guest which has not run would be what its monitor asks for alone. */
  async #keepWorkingSet(): Promise<void> {
    if (!this.#hasRun) return;
    const { keepWorkingSet, log, process } = this.#of;
    await keepWorkingSet?.().catch((err: unknown) =>
      log.debug({ err, pid: process.pid }, 'the working set of a guest cannot be kept'),
    );
  }

  /** What cannot be counted is missing from sums, and nothing else. */
  async #count(): Promise<void> {
    try {
      await this.send(flush);
      await this.#counts.take();
    } catch (err) {
      this.#of.log.debug(
        { err, pid: this.#of.process.pid },
        'the VM monitor cannot be asked what it counted',
      );
    }
  }

  /** @returns how the guest ended, if the console shows that */
  async #end(): Promise<string | undefined> {
    this.#close();
    await this.#drain();
    await this.#counts.takePagers();
    if (this.#looks < looksPerCount) await this.#keepWorkingSet();
    return guestEnd(this.keptConsole());
  }

  async #dropSaved(): Promise<void> {
    const saved = this.#saved;
    this.#saved = undefined;
    await saved?.[Symbol.asyncDispose]();
  }

  #close(): void {
    void this.#dropSaved().catch(() => {});
    void this.#api?.then((api) => api.close()).catch(() => {});
    this.#api = undefined;
  }
}
