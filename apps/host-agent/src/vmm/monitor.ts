/** What Perch asks of a VM monitor. One back end a folder beside this file. */

/** Identity of a process that outlives us: a pid alone may name another process later. */
export interface ProcessRef {
  pid: number;
  /** Start time, clock ticks since boot, field 22 of /proc/PID/stat. */
  startTime: number;
}

export interface VmSpec {
  /** Sandbox id. */
  id: string;
  generation: number;
  /** The VM's own directory: absolute, 0700, owned by `uid`; sockets of the monitor live in it. */
  dir: string;
  /** The monitor's uid and gid, which nothing else on the machine uses. */
  uid: number;
  vcpus: number;
  memoryMb: number;
  /** Root-owned, 0444, on the file system of `dir`: the monitor gets hard links. */
  kernel: string;
  initramfs: string;
  /**
   * Root disk of the guest: files in `dir`, readable and, but for `base`, writable by `uid`. `base` is the raw
   * image below a qcow2 layer; `maxFileBytes` the largest that the file at `path` may become.
   */
  disk: { path: string; format: 'qcow2' | 'raw'; base?: string; maxFileBytes: number };
  /** Network of the guest. */
  network: { namespace: string; tap: string; mac: string };
}

/** What finds a monitor again. */
export type VmIdentity = Pick<VmSpec, 'id' | 'dir' | 'uid'>;

/** A monitor process that we started or found again. */
export interface Vm {
  readonly process: ProcessRef;
  /** Settles once the process is gone, with a sentence that says why as far as it is known. Never rejects. */
  readonly exited: Promise<string>;
  /** Stages of the boot, milliseconds. An adopted VM has none. */
  readonly timings?: Readonly<Record<string, number>>;
  /**
   * The last bytes of the guest's console (bounded), as the guest wrote them. After the exit: what was read
   * before. An adopted VM has what nobody had read.
   */
  console(): Promise<Buffer>;
  /**
   * Ends the process and resolves when the kernel has released it. Safe to repeat.
   * @throws when it is still there after 10 s
   */
  kill(): Promise<void>;
  /** Drops what this process holds of the VM (sockets, timers), and lets it run on. `exited` stays open then. */
  release(): void;
}

export interface VmMonitor {
  readonly kind: 'qemu';
  /** Starts the guest from power-on. When it rejects, no process, cgroup or file of it is left. */
  boot(spec: VmSpec): Promise<Vm>;
  /**
   * Finds the monitor of `spec` again: by (pid, start time) where that is known, and by uid and directory
   * where the journal has none yet. Undefined when there is none alive.
   */
  adopt(spec: Omit<VmSpec, 'disk'>, known: ProcessRef | undefined): Promise<Vm | undefined>;
  /** Removes what is left of monitors of sandboxes that are not in `owned` and have no process. */
  sweep(owned: ReadonlySet<string>): Promise<void>;
}
