/** One QEMU that runs: started by us or found again, both in the same way. */

import type { ChildProcess } from 'node:child_process';
import { basename, join } from 'node:path';
import { quoted } from '@perch/node-kit';
import type { Logger } from 'pino';
import type { FileDisk } from '../../disk/index.ts';
import type { ProcessRef } from '../../linux/index.ts';
import { noRoomForGuest, type RoomSignal, type SavedState, type Vm } from '../monitor.ts';
import { ConsoleTail, takeFile, type VmCgroup, VmProcesses } from '../process/index.ts';
import { consoleBytes } from './arguments.ts';
import { drainConsole } from './console.ts';
import { guestEnd } from './guest-end.ts';
import { type GuestMemory, guestMemory } from './guest-memory.ts';
import { connectQmp, isObject, type QmpClient, type QmpEvent } from './qmp/index.ts';
import { RoomWait, standsStill } from './room-wait.ts';
import { fileNames, maxDeviceState } from './vm-directory.ts';

/** Answers come from a main loop that the guest cannot hold up for long. */
const commandTimeoutMs = 5000;
const reconnectTimeoutMs = 10_000;
/** To stop a guest its disk is written out, which a slow disk makes long. */
const slowCommandMs = 60_000;
/** A look costs nothing, and a guest that waits for room holds up whoever uses it. */
const roomRetryMs = [500, 1000, 2000, 5000];

export interface RunningVm {
  process: ProcessRef;
  dir: string;
  uid: number;
  cgroup?: VmCgroup;
  /** When we started it. */
  child?: ChildProcess;
  log: Logger;
}

export class QemuVm implements Vm {
  readonly processes: readonly ProcessRef[];
  readonly exited: Promise<string>;
  readonly #of: RunningVm;
  readonly #running: VmProcesses;
  readonly #console = new ConsoleTail(consoleBytes);
  readonly #wait = new RoomWait({
    status: () => this.status(AbortSignal.timeout(reconnectTimeoutMs)),
    go: () => this.#command('cont'),
    retryMs: roomRetryMs,
  });
  /** The guest stopped the machine, for a reason that is undefined when nobody was listening. */
  #shutdown: { reason: string | undefined } | undefined;
  #qmp: QmpClient | undefined;
  #connecting: Promise<QmpClient> | undefined;

  constructor(of: RunningVm) {
    this.#of = of;
    const { process, child, dir, cgroup, log } = of;
    this.#running = new VmProcesses({
      processes: [{ name: 'The VM monitor', process, child }],
      ...{ dir, cgroup, log },
      onTick: () => this.#keepConnected(),
      onEnd: () => this.#end(),
    });
    this.processes = this.#running.refs;
    this.exited = this.#running.exited;
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
    const qmp = await connectQmp(address, AbortSignal.any([signal, this.#running.gone]), {
      timeoutMs: commandTimeoutMs,
      onEvent: (event) => this.#onEvent(event),
    });
    if (this.#running.isOver) {
      qmp.close();
      throw new Error('The VM monitor is gone');
    }
    this.#qmp = qmp;
    void qmp.closed.then(() => {
      this.#qmp = undefined;
      this.#running.hint();
    });
    return qmp;
  }

  /** State of the machine, `RunState` in qapi/run-state.json. The end of a guest while nobody listened shows. */
  async status(signal: AbortSignal): Promise<string> {
    const qmp = await this.connect(signal);
    const answer = await qmp.execute('query-status');
    const status = isObject(answer) && typeof answer.status === 'string' ? quoted(answer.status) : 'unknown';
    if (status === 'shutdown') void this.#onShutdown(undefined);
    if (status === standsStill) this.#wait.begin();
    return status;
  }

  /** As `VmProcesses.whileAlive`. */
  whileAlive<T>(work: Promise<T>): Promise<T> {
    return this.#running.whileAlive(work);
  }

  async console(): Promise<Buffer> {
    if (!this.#running.isOver) await this.#drain(AbortSignal.timeout(reconnectTimeoutMs));
    return this.keptConsole();
  }

  keptConsole(): Buffer {
    return this.#console.last();
  }

  get room(): RoomSignal {
    return this.#wait;
  }

  async freeze(): Promise<void> {
    this.#wait.hold();
    await this.#command('stop');
    // A request that failed stays in the device, and what depends on it may not be on the disk.
    const { 'io-status': status } = await this.#drive();
    if (status !== 'nospace') return;
    throw noRoomForGuest();
  }

  async thaw(): Promise<void> {
    await this.#command('cont');
    this.#wait.letGo();
  }

  async isFrozen(): Promise<boolean> {
    return (await this.status(AbortSignal.timeout(reconnectTimeoutMs))) !== 'running';
  }

  /** The memory is a private mapping of one file for as long as the process lives, whatever was saved of it. */
  async saveState(): Promise<SavedState> {
    if (!(await this.isFrozen())) throw new Error('The guest is not stopped');
    // Not live: the images stay this process's own, and the guest can run on.
    await this.#command('xen-save-devices-state', { filename: fileNames.savedDevices, live: false });
    const path = join(this.#of.dir, fileNames.savedDevices);
    const devices = await takeFile(path, this.#of.uid, maxDeviceState, 'device state');
    const memory = this.memory();
    return { devices, memory: { since: 'mapped-file', runs: memory.changed(), read: memory.read } };
  }

  async unsavedBytesAtMost(): Promise<number> {
    return this.memory()
      .changed()
      .reduce((sum, { length }) => sum + length, 0);
  }

  async prepareSwitch({ path, format: driver }: FileDisk): Promise<() => Promise<void>> {
    const filename = basename(path);
    const node = filename;
    const below = await this.#diskNode();
    const file = { driver: 'file', 'node-name': `${node}-file`, filename, discard: 'unmap' };
    await this.#command('blockdev-add', file);
    const overlay = { driver, 'node-name': node, file: `${node}-file`, discard: 'unmap' };
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
    return guestMemory(this.#of.process.pid, this.#of.dir);
  }

  async #command(name: string, args?: Record<string, unknown>): Promise<unknown> {
    const connected = this.connect(AbortSignal.timeout(reconnectTimeoutMs));
    return this.whileAlive(connected.then((qmp) => qmp.execute(name, args, slowCommandMs)));
  }

  kill(): Promise<void> {
    return this.#running.kill();
  }

  release(): void {
    this.#running.release();
    this.#wait.stop();
    this.#qmp?.close();
  }

  #onEvent({ event, data }: QmpEvent): void {
    if (event === 'SHUTDOWN') {
      void this.#onShutdown(typeof data.reason === 'string' ? data.reason : 'unknown');
    } else if (event === 'BLOCK_IO_ERROR' && data.action === 'stop') this.#wait.begin();
  }

  /** The guest is over, and QEMU waits with its console and its memory: take the one, and end it. */
  async #onShutdown(reason: string | undefined): Promise<void> {
    if (this.#shutdown) return;
    this.#shutdown = { reason };
    await this.#drain(AbortSignal.timeout(reconnectTimeoutMs));
    try {
      await this.#running.end();
    } catch (err) {
      this.#of.log.error(
        { err, pid: this.#of.process.pid },
        'the monitor of a guest that ended does not end',
      );
    }
  }

  /** Unreadable bytes are missing from the console, which is no reason for anything else to fail. */
  async #drain(signal: AbortSignal): Promise<void> {
    try {
      await drainConsole(await this.connect(signal), this.#console, commandTimeoutMs);
    } catch (err) {
      this.#of.log.debug({ err, pid: this.#of.process.pid }, 'the console cannot be read');
    }
  }

  /** A connection that broke while the process lives is made again, or the guest's end would go unnoticed. */
  #keepConnected(): void {
    if (this.#qmp || this.#connecting || this.#shutdown) return;
    void this.status(AbortSignal.timeout(reconnectTimeoutMs)).catch((err: unknown) => {
      this.#of.log.debug({ err, pid: this.#of.process.pid }, 'the monitor does not answer');
    });
  }

  /** @returns how the guest ended, if it did */
  #end(): string | undefined {
    this.#wait.stop();
    this.#qmp?.close();
    return this.#shutdown && guestEnd(this.#shutdown.reason, this.#console.last());
  }
}
