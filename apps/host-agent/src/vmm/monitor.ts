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
  kernel: string;
  initramfs: string;
  /** Image that the root disk of the guest is made of, readable and writable by `uid`. */
  disk: { path: string; format: 'qcow2' | 'raw' };
  /** Network of the guest. */
  network: { namespace: string; tap: string; mac: string };
}

/** A monitor process that we started or found again. */
export interface Vm {
  readonly process: ProcessRef;
  /** Settles once the process is gone, with a sentence that says why as far as it is known. Never rejects. */
  readonly exited: Promise<string>;
  /** The last bytes of the guest's console (bounded), as the guest wrote them. */
  console(): Promise<Buffer>;
  /** Ends the process and resolves when the kernel has released it. Safe to repeat. */
  kill(): Promise<void>;
  /** Drops what this process holds of the VM (sockets, timers), and lets the VM run on. */
  release(): void;
}

export interface VmMonitor {
  readonly kind: 'qemu';
  /** Starts the guest from power-on. When it rejects, no process is left. */
  boot(spec: VmSpec): Promise<Vm>;
  /**
   * Finds the monitor of `spec` again: by (pid, start time) where that is known, and by uid and directory
   * where the journal has none yet. Undefined when there is none alive.
   */
  adopt(spec: Omit<VmSpec, 'disk'>, known: ProcessRef | undefined): Promise<Vm | undefined>;
}
