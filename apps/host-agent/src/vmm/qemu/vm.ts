/** One QEMU that runs: started by us or found again, both in the same way. */
import type { ChildProcess } from 'node:child_process';
import { statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import {
  type Cgroups,
  changedPages,
  endProcess,
  fileMappings,
  readMemory,
  writeMemory,
} from '../../linux/index.ts';
import type { GuestMemory, ProcessRef, Vm } from '../monitor.ts';
import { ConsoleTail, drainConsole } from './console.ts';
import { type ExitFacts, exitReason } from './exit-reason.ts';
import { ExitWatch } from './exit-watch.ts';
import { printable } from './printable.ts';
import { connectQmp, isObject, type QmpClient, type QmpEvent } from './qmp/index.ts';
import { RoomWait, standsStill } from './room-wait.ts';
import { fileNames, readLogTail, takeDeviceState } from './vm-directory.ts';

/** Answers come from a main loop that the guest cannot hold up for long. */
const commandTimeoutMs = 5000;
const reconnectTimeoutMs = 3000;
/** To stop a guest its disk is written out, which a slow disk makes long. */
const slowCommandMs = 60_000;
/** A look costs nothing, and a guest that waits for room holds up whoever uses it. */
const roomRetryMs = [500, 1000, 2000, 5000];
/** A connection that breaks because the process ends does so a moment before the end shows. */
const exitFollowsMs = 500;

export interface RunningVm {
  process: ProcessRef;
  dir: string;
  uid: number;
  cgroup: string;
  cgroups: Cgroups;
  /** When we started it. */
  child?: ChildProcess;
  log: Logger;
}

export class QemuVm implements Vm {
  readonly process: ProcessRef;
  readonly exited: Promise<string>;
  readonly timings: Record<string, number> = {};
  readonly #of: RunningVm;
  readonly #watch: ExitWatch;
  readonly #console = new ConsoleTail();
  readonly #room = new RoomWait({
    status: () => this.status(AbortSignal.timeout(reconnectTimeoutMs)),
    go: () => this.#command('cont'),
    retryMs: roomRetryMs,
  });
  readonly #facts: Pick<ExitFacts, 'killed' | 'shutdown' | 'status'> = {
    killed: false,
    shutdown: undefined,
    status: undefined,
  };
  #qmp: QmpClient | undefined;
  #connecting: Promise<QmpClient> | undefined;

  constructor(of: RunningVm) {
    this.#of = of;
    this.process = of.process;
    this.#watch = new ExitWatch(of.process, () => this.#keepConnected());
    this.exited = this.#watch.gone.then(() => this.#conclude());
    of.child?.once('exit', (code, signal) => {
      this.#facts.status = { code, signal };
      this.#watch.hint();
    });
  }

  /** Connects when there is no connection. @throws when `signal` aborts or somebody else listens */
  async connect(signal: AbortSignal): Promise<QmpClient> {
    if (this.#qmp) return this.#qmp;
    this.#connecting ??= this.#open(signal).finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #open(signal: AbortSignal): Promise<QmpClient> {
    const { dir, uid, process } = this.#of;
    const address = { dir, socketName: fileNames.qmp, pid: process.pid, uid };
    const qmp = await connectQmp(address, signal, {
      timeoutMs: commandTimeoutMs,
      onEvent: (event) => this.#onEvent(event),
    });
    if (this.#watch.isOver) {
      qmp.close();
      throw new Error('The VM monitor is gone');
    }
    this.#qmp = qmp;
    void qmp.closed.then(() => {
      this.#qmp = undefined;
      this.#watch.hint();
    });
    return qmp;
  }

  /** State of the machine, `RunState` in qapi/run-state.json. The end of a guest while nobody listened shows. */
  async status(signal: AbortSignal): Promise<string> {
    const qmp = await this.connect(signal);
    const answer = await qmp.execute('query-status');
    const status =
      isObject(answer) && typeof answer.status === 'string' ? printable(answer.status) : 'unknown';
    if (status === 'shutdown') void this.#onShutdown(undefined);
    if (status === standsStill) this.#room.begin();
    return status;
  }

  /**
   * Waits for something that only a living monitor does. @throws with the reason of its exit rather than
   * with that of a connection which broke because of it
   */
  async whileAlive<T>(work: Promise<T>): Promise<T> {
    const exit = this.exited.then((reason) => Promise.reject(new Error(reason)));
    try {
      return await Promise.race([work, exit]);
    } catch (error) {
      await Promise.race([exit, sleep(exitFollowsMs)]);
      throw error;
    }
  }

  async console(): Promise<Buffer> {
    if (!this.#watch.isOver) await this.#drain(AbortSignal.timeout(reconnectTimeoutMs));
    return this.#console.last();
  }

  get lacksRoom(): boolean {
    return this.#room.lacks;
  }

  onRoom(listener: (lacks: boolean) => void): void {
    this.#room.watch(listener);
  }

  async freeze(): Promise<void> {
    this.#room.hold();
    await this.#command('stop');
    // A request that failed stays in the device, and what depends on it may not be on the disk.
    const { 'io-status': status } = await this.#drive();
    if (status !== 'nospace') return;
    const message = 'The disk of the host has no room for what the guest writes.';
    throw Object.assign(new Error(message), { code: 'ENOSPC' });
  }

  async thaw(): Promise<void> {
    await this.#command('cont');
    this.#room.letGo();
  }

  async isFrozen(): Promise<boolean> {
    return (await this.status(AbortSignal.timeout(reconnectTimeoutMs))) !== 'running';
  }

  async saveDevices(): Promise<Buffer> {
    if (!(await this.isFrozen())) throw new Error('The guest is not stopped');
    // Not live: the images stay this process's own, and the guest can run on.
    await this.#command('xen-save-devices-state', { filename: fileNames.savedDevices, live: false });
    return takeDeviceState(this.#of.dir, this.#of.uid);
  }

  async prepareDisk(layer: string): Promise<() => Promise<void>> {
    const filename = basename(layer);
    const node = basename(layer, '.qcow2');
    const below = await this.#diskNode();
    const file = { driver: 'file', 'node-name': `${node}-file`, filename, discard: 'unmap' };
    await this.#command('blockdev-add', file);
    const overlay = { driver: 'qcow2', 'node-name': node, file: `${node}-file`, discard: 'unmap' };
    await this.#command('blockdev-add', { ...overlay, backing: null });
    return async () => {
      if (!(await this.isFrozen())) throw new Error('The guest is not stopped');
      await this.#command('blockdev-snapshot', { node: below, overlay: node });
    };
  }

  /** `BlockInfo` of the guest's disk, qapi/block-core.json. */
  async #drive(): Promise<Record<string, unknown>> {
    const answer = await this.#command('query-block');
    const drives = (Array.isArray(answer) ? answer : []).filter(isObject);
    const [drive, ...others] = drives.filter(({ inserted }) => isObject(inserted));
    if (!drive || others.length > 0) throw new Error('The guest has no single disk');
    return drive;
  }

  /** Name of the node that the guest's disk writes to. */
  async #diskNode(): Promise<string> {
    const { inserted } = await this.#drive();
    const name = isObject(inserted) ? inserted['node-name'] : undefined;
    if (typeof name !== 'string') throw new Error('The disk of the guest has no name');
    return name;
  }

  memory(): GuestMemory {
    const { pid } = this.process;
    const file = statSync(join(this.#of.dir, fileNames.memory), { bigint: true });
    const mappings = fileMappings(pid, file);
    if (mappings.length === 0) throw new Error(`Process ${pid} has no memory of a guest`);
    return {
      changed: () => changedPages(pid, mappings),
      read: (runs, into) => readMemory(pid, mappings, runs, into),
      write: (runs, from) => writeMemory(pid, mappings, runs, from),
    };
  }

  async #command(name: string, args?: Record<string, unknown>): Promise<unknown> {
    const connected = this.connect(AbortSignal.timeout(reconnectTimeoutMs));
    return this.whileAlive(connected.then((qmp) => qmp.execute(name, args, slowCommandMs)));
  }

  async kill(): Promise<void> {
    // After release() nobody watches, and `exited` stays open.
    const released = this.#watch.isOver;
    this.#facts.killed ||= !released;
    await endProcess(this.process);
    this.#watch.hint();
    if (released) await this.#removeCgroup();
    else await this.exited;
  }

  release(): void {
    this.#watch.stop();
    this.#room.stop();
    this.#of.child?.removeAllListeners('exit');
    this.#qmp?.close();
  }

  #onEvent({ event, data }: QmpEvent): void {
    if (event === 'SHUTDOWN') {
      void this.#onShutdown(typeof data.reason === 'string' ? data.reason : 'unknown');
    } else if (event === 'BLOCK_IO_ERROR' && data.action === 'stop') this.#room.begin();
  }

  /** The guest is over, and QEMU waits with its console and its memory: take the one, and end it. */
  async #onShutdown(reason: string | undefined): Promise<void> {
    if (this.#facts.shutdown) return;
    this.#facts.shutdown = { reason };
    await this.#drain(AbortSignal.timeout(reconnectTimeoutMs));
    try {
      await endProcess(this.process);
    } catch (err) {
      this.#of.log.error({ err, pid: this.process.pid }, 'the monitor of a guest that ended does not end');
    }
    this.#watch.hint();
  }

  /** What cannot be read is missing from the console, which is no reason for anything else to fail. */
  async #drain(signal: AbortSignal): Promise<void> {
    try {
      await drainConsole(await this.connect(signal), this.#console, commandTimeoutMs);
    } catch (err) {
      this.#of.log.debug({ err, pid: this.process.pid }, 'the console cannot be read');
    }
  }

  /** A connection that broke while the process lives is made again, or the guest's end would go unnoticed. */
  #keepConnected(): void {
    if (this.#qmp || this.#connecting || this.#facts.shutdown) return;
    void this.status(AbortSignal.timeout(reconnectTimeoutMs)).catch((err: unknown) => {
      this.#of.log.debug({ err, pid: this.process.pid }, 'the monitor does not answer');
    });
  }

  /** Nothing in here may fail: the sentence is all that is wanted. */
  async #conclude(): Promise<string> {
    const { dir, cgroup, cgroups } = this.#of;
    this.#room.stop();
    this.#qmp?.close();
    const [log, oomKills] = await Promise.all([
      readLogTail(dir),
      cgroups.oomKills(cgroup),
      this.#untilReaped(),
    ]);
    await this.#removeCgroup();
    return exitReason({ ...this.#facts, console: this.#console.last(), log, oomKills });
  }

  /** /proc may show the end of a child before Node tells its status. */
  async #untilReaped(): Promise<void> {
    const { child } = this.#of;
    if (!child || this.#facts.status) return;
    await Promise.race([new Promise((resolve) => child.once('exit', resolve)), sleep(exitFollowsMs)]);
  }

  async #removeCgroup(): Promise<void> {
    const { cgroup, cgroups, log } = this.#of;
    await cgroups.remove(cgroup).catch((err: unknown) => log.error({ err, cgroup }, 'a cgroup is left'));
  }
}
