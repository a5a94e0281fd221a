/** Limits of what VMs use of their host, by a control group each: `perch-{instance}/{id}`. */
import type { Logger } from 'pino';
import { type CgroupLimits, type Cgroups, type Leftover, openCgroups } from '../../linux/index.ts';

export class VmLimits {
  readonly #cgroups: Cgroups;
  readonly #parent: string;

  private constructor(cgroups: Cgroups, parent: string) {
    this.#cgroups = cgroups;
    this.#parent = parent;
  }

  /** @param instance short id of the data directory */
  static async open(instance: string, log: Logger): Promise<VmLimits> {
    const cgroups = await openCgroups();
    const { description, missing } = cgroups;
    if (missing.length > 0) {
      log.warn({ cgroups: description, missing }, 'this machine cannot limit what a VM monitor uses');
    }
    return new VmLimits(cgroups, `perch-${instance}`);
  }

  /** @param id of the VM */
  of(id: string): VmCgroup {
    return new VmCgroup(this.#cgroups, `${this.#parent}/${id}`);
  }

  /** Groups whose VM is not among `owned`, which is asked once all that exists is listed. */
  async unowned(owned: () => ReadonlySet<string>): Promise<Leftover[]> {
    const existing = await this.#cgroups.list(this.#parent);
    const known = owned();
    return existing
      .filter((id) => !known.has(id))
      .map((id) => this.of(id))
      .map((group) => ({ what: `cgroup ${group.path}`, remove: () => group.remove() }));
  }
}

/** Each call may be repeated. */
export class VmCgroup {
  readonly path: string;
  readonly #cgroups: Cgroups;

  constructor(cgroups: Cgroups, path: string) {
    this.#cgroups = cgroups;
    this.path = path;
  }

  create(limits: CgroupLimits): Promise<void> {
    return this.#cgroups.create(this.path, limits);
  }

  /** Moves a process, with what it starts from then on, into the group. */
  add({ pid }: { pid: number }): Promise<void> {
    return this.#cgroups.add(this.path, pid);
  }

  /** How often the kernel ended a process of the group for want of memory. */
  oomKills(): Promise<number> {
    return this.#cgroups.oomKills(this.path);
  }

  /** Its processes must be gone. */
  remove(): Promise<void> {
    return this.#cgroups.remove(this.path);
  }
}
