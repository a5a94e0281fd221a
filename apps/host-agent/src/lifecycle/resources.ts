/**
 * What a sandbox holds on its host, made and removed in one order:
 * slot → directory → disk → monitor → guest ready, and back. Each is written to the journal before it is made.
 */
import { chown, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiskLayer } from '../disk/index.ts';
import type { GuestReadiness } from '../guest/index.ts';
import type { NetworkLayer } from '../network/index.ts';
import type { BaseTemplate } from '../template/index.ts';
import type { Vm, VmMonitor, VmSpec } from '../vmm/index.ts';
import type { Journal, SandboxRecord } from './journal.ts';

export interface ResourceDeps {
  journal: Journal;
  network: NetworkLayer;
  disks: DiskLayer;
  monitor: VmMonitor;
  guest: GuestReadiness;
  /** Directory of the VMs' directories; 0700, root: a monitor starts inside its own, and needs no way there. */
  vmsDir: string;
  kernel: string;
  initramfs: string;
  /** How long a guest may take until its agent answers, milliseconds. */
  bootTimeoutMs: number;
}

/** What the journal does not keep: it is needed once, at the start. */
export interface Secrets {
  accessToken: string;
  env: Record<string, string>;
}

/** User that commands run as unless a request names another. Every base image has it. */
const defaultUser = 'user';

export class Resources {
  readonly #deps: ResourceDeps;
  /** Held while the monitor is known to run. */
  vm: Vm | undefined;
  /** What the console showed when the monitor was let go: it often has the reason. */
  #lastConsole: Buffer = Buffer.alloc(0);

  constructor(deps: ResourceDeps) {
    this.#deps = deps;
  }

  /**
   * Makes everything. On failure the caller tears down what the journal names.
   * @returns milliseconds of each stage
   */
  async make(
    record: SandboxRecord,
    template: BaseTemplate,
    secrets: Secrets,
    signal: AbortSignal,
  ): Promise<Record<string, number>> {
    const { journal, network, disks, monitor, guest } = this.#deps;
    const stages = new Stopwatch();
    const slot = await network.acquire();
    try {
      journal.setSlot(record.id, slot.number);
    } catch (error) {
      await network.release(slot.number);
      throw error;
    }
    stages.lap('slot');
    signal.throwIfAborted();
    const dir = this.#dir(record.id);
    await mkdir(dir, { mode: 0o700 });
    await chown(dir, slot.uid, slot.uid);
    const sizeBytes = record.disk_mb * 2 ** 20;
    const disk = await disks.create({ base: template.rootfs, dir, uid: slot.uid, sizeBytes });
    stages.lap('disk');
    signal.throwIfAborted();
    this.vm = await monitor.boot({ ...this.#spec(record, slot.number), disk });
    journal.setProcess(record.id, this.vm.process);
    stages.lap('monitor');
    const ready = AbortSignal.any([signal, AbortSignal.timeout(this.#deps.bootTimeoutMs)]);
    await Promise.race([
      this.vm.exited.then((reason) => Promise.reject(new Error(reason))),
      guest.waitForAgent(slot.address, ready),
    ]);
    stages.lap('boot');
    const identity = {
      sandboxId: record.id,
      templateId: record.template,
      generation: record.generation,
      accessToken: secrets.accessToken,
      env: secrets.env,
      defaultUser,
    };
    await guest.giveIdentity(slot.address, identity, ready);
    stages.lap('identity');
    return stages.laps;
  }

  /** Finds the monitor of a sandbox that ran before this process did. False when it is gone. */
  async adopt(record: SandboxRecord): Promise<boolean> {
    if (record.slot === null) return false;
    this.vm = await this.#find(record, record.slot);
    if (this.vm) this.#deps.journal.setProcess(record.id, this.vm.process);
    return this.vm !== undefined;
  }

  /**
   * Removes everything that the journal names, by who holds whose files: the monitor first, then what it
   * had open. When the monitor cannot be ended nothing after it is touched; else each step runs, whatever
   * became of the one before.
   * @throws AggregateError of the steps that failed. Running it again goes on where it stopped.
   */
  async remove(record: SandboxRecord): Promise<void> {
    const { journal, network, disks } = this.#deps;
    const dir = this.#dir(record.id);
    if (record.slot !== null) {
      const vm = this.vm ?? (await this.#find(record, record.slot));
      this.#lastConsole = (await vm?.console()) ?? this.#lastConsole;
      await vm?.kill();
      vm?.release();
      this.vm = undefined;
    }
    journal.setProcess(record.id, null);
    const failures: unknown[] = [];
    const step = async (work: () => Promise<unknown>) => {
      try {
        await work();
      } catch (error) {
        failures.push(error);
      }
    };
    await step(() => disks.remove({ dir }));
    await step(() => rm(dir, { recursive: true, force: true }));
    const { slot } = record;
    if (slot !== null) {
      await step(async () => {
        await network.release(slot);
        journal.setSlot(record.id, null);
      });
    }
    if (failures.length > 0)
      throw new AggregateError(failures, `Not all of sandbox ${record.id} could be removed.`);
  }

  /** The last bytes of the guest's console, also after its end. */
  async console(): Promise<Buffer> {
    return (await this.vm?.console()) ?? this.#lastConsole;
  }

  /** Bytes that the sandbox occupies on this host's disk. */
  occupied(id: string): Promise<number> {
    return this.#deps.disks.occupied({ dir: this.#dir(id) });
  }

  async #find(record: SandboxRecord, slot: number): Promise<Vm | undefined> {
    const spec = this.#spec(record, slot);
    return this.#deps.monitor.adopt(spec, record.process ?? undefined);
  }

  #spec(record: SandboxRecord, slotNumber: number): Omit<VmSpec, 'disk'> {
    const slot = this.#deps.network.describe(slotNumber);
    return {
      id: record.id,
      generation: record.generation,
      dir: this.#dir(record.id),
      uid: slot.uid,
      vcpus: record.vcpus,
      memoryMb: record.memory_mb,
      kernel: this.#deps.kernel,
      initramfs: this.#deps.initramfs,
      network: { namespace: slot.namespace, tap: slot.tap, mac: slot.mac },
    };
  }

  #dir(id: string): string {
    return join(this.#deps.vmsDir, id);
  }
}

class Stopwatch {
  readonly laps: Record<string, number> = {};
  readonly #start = performance.now();
  #last = this.#start;

  lap(name: string): void {
    const at = performance.now();
    this.laps[name] = round(at - this.#last);
    this.laps.total = round(at - this.#start);
    this.#last = at;
  }
}

function round(milliseconds: number): number {
  return Math.round(milliseconds * 10) / 10;
}
