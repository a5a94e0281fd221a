/** A VM monitor, as Perch uses it. One back end a folder beside this file. */

import type { HostMachine } from '@perch/protocol';
import type { FileDisk, VmDisk } from '../disk/index.ts';
import type { Leftover, ProcessRef } from '../linux/index.ts';
import type { BuildId, MemoryDifference, MemoryImage } from '../snapshot/index.ts';
import type { Counted } from './counters.ts';

export interface VmSpec {
  /** Of the VM. */
  id: string;
  /** The VM's own directory: absolute, 0700, owned by `uid`; sockets of the monitor live in it. */
  dir: string;
  /** The monitor's uid and gid, which nothing else on the machine uses. */
  uid: number;
  vcpus: number;
  memoryMb: number;
  /** Root-owned, 0444, on the file system of `dir`: the monitor gets hard links. */
  kernel: string;
  initramfs: string;
  /** Root disk of the guest: what `uid` may read, and write at its `path`. Files are in `dir`. */
  disk: VmDisk;
  /** Network of the guest. */
  network: { namespace: string; tap: string; mac: string };
}

/** The files that a guest goes on from. All files are root-owned, 0444, on the file system of the VM's directory. */
export interface VmState {
  /** Read as it is needed, by the monitor or by what serves it. */
  image: MemoryImage;
  /** Path of the device state, as `Vm.saveState` gave it. */
  devices: string;
}

/** The state of a guest that stands still. */
export interface SavedState {
  /** Device state, without memory. */
  devices: Buffer;
  memory: MemoryDifference;
}

/** The wait of a guest for room on the host's disk. It goes on by itself once there is some. */
export interface RoomSignal {
  /** Whether the guest stands still for it. */
  readonly lacks: boolean;
  /** Has `listener` told when that changes, and at once when it is so; in place of the one before. */
  watch(listener: (lacks: boolean) => void): void;
  /** Resolves once the guest stands still for it, seen from now on, and is given up with `signal`. */
  untilLacks(signal: AbortSignal): Promise<void>;
}

/** The host's disk has no room for what a guest has written, which keeps it until there is some. */
export function noRoomForGuest(): Error {
  const message = 'The disk of the host has no room for what the guest writes.';
  return Object.assign(new Error(message), { code: 'ENOSPC' });
}

/** The marks by which a monitor is found again. */
export type VmIdentity = Pick<VmSpec, 'id' | 'dir' | 'uid'>;

/** A VM that we started or found again. */
export interface Vm {
  /** The monitor, and what serves it, in the order in which they are ended. */
  readonly processes: readonly ProcessRef[];
  /**
   * Settles once they are gone, as all are with the first of them, with a sentence that says why as far as it is
   * known. Never rejects.
   */
  readonly exited: Promise<string>;
  /**
   * The last bytes of the guest's console (bounded), as the guest wrote them. After the exit: what was read
   * before. An adopted VM has what nobody had read.
   */
  console(): Promise<Buffer>;
  /** What of it was read before, of a monitor that may not answer. */
  keptConsole(): Buffer;
  /** Of a monitor that has its guest wait, where others give it an error. */
  readonly room?: RoomSignal;
  /** How a guest that goes on gets its memory, and the milliseconds until that was ready: of a monitor with several ways. */
  readonly memoryWay?: { name: string; ms: number } | undefined;
  /**
   * Stops the guest between two instructions; its disk is written out. Safe to repeat.
   * @throws Error with code ENOSPC when the host's disk has no room for what it wrote; it is stopped all the same
   */
  freeze(): Promise<void>;
  /** Lets a stopped guest run. Safe to repeat. */
  thaw(): Promise<void>;
  /** Whether the guest is stopped. */
  isFrozen(): Promise<boolean>;
  /**
   * State of a stopped guest. Safe to repeat.
   * @param build what this state is called
   * @param parent what the state is called that is there when this one is kept: the guest went on from it or was saved
   *   as it, and perhaps as others since, of which nothing is left; undefined of one that was booted and has none
   * @throws when it is not stopped, or not believable
   */
  saveState(build: BuildId, parent: BuildId | undefined): Promise<SavedState>;
  /** The most that the difference of a `saveState` would have if the guest stood still now, bytes. */
  unsavedBytesAtMost(): Promise<number>;
  /** As DiskUser.prepareSwitch. */
  prepareSwitch(next: FileDisk): Promise<() => Promise<void>>;
  /**
   * Ends the processes and resolves when the kernel has released them. Safe to repeat.
   * @throws when one is still there after 10 s
   */
  kill(): Promise<void>;
  /** Drops what this process holds of the VM (sockets, timers), which runs on. `exited` stays open then. */
  release(): void;
}

/** What one guest may do in a second, each unlimited where it is undefined. */
export interface IoLimits {
  /** Bytes that it reads and writes of its disk. */
  diskBytes?: number | undefined;
  /** Requests to its disk. */
  diskRequests?: number | undefined;
  /** Bytes of its network, in each direction. */
  networkBytes?: number | undefined;
}

/** The ways in which monitors differ. `docs/architecture/host-agent.md` has a table of them. */
export interface MonitorCapabilities {
  /** `MemoryDifference.since` of what it saves. */
  differences: MemoryDifference['since'];
  /** How a guest gets its memory back: it maps the flat memfile, or in one of the ways that `PERCH_RESTORE` chooses from. */
  memory: 'mapped' | 'chosen';
  /** Whether `Vm.room` is there. */
  waitsForRoom: boolean;
  /** Whether the disk of a guest may be a file; a device always may. */
  takesFiles: boolean;
  /** Whether it holds guests to `IoLimits`. */
  limitsIo: boolean;
}

/** Told of the processes as soon as they are there, before a guest runs. What it throws ends the start, and them. */
export type Started = (processes: readonly ProcessRef[]) => void;

export interface VmMonitor {
  /** Its part of what a snapshot needs of the host that goes on from it. */
  readonly machine: Pick<HostMachine, 'monitor' | 'cpu'>;
  /** Host memory that a VM may use beside its guest's, MiB. */
  overheadMb(spec: Pick<VmSpec, 'memoryMb'>): number;
  /**
   * Room on the disk that one life takes beside the guest's disk, MiB: for the state that a pause writes, and for what
   * its monitor makes of the state that it goes on from.
   */
  diskMb(spec: Pick<VmSpec, 'memoryMb'>): number;
  /** Bytes of that room that a VM has taken until now. */
  takenBytes(vm: Pick<VmIdentity, 'id' | 'dir'>): Promise<number>;
  /** Whether bytes may be device state that this kind of monitor has written: for those who would try them. */
  recognises(deviceState: Buffer): boolean;
  /** Sums of what its VMs have counted, as it is known every ten seconds; of a monitor that counts. */
  counted?(): Counted[];
  /** Starts the guest from power-on. When it rejects, no process, cgroup or file of it is left. */
  boot(spec: VmSpec, started?: Started): Promise<Vm>;
  /**
   * Starts a machine in the state of another and leaves it stopped: `thaw` lets it run. When it rejects, no
   * process, cgroup or file of it is left.
   */
  restore(spec: VmSpec, state: VmState, started?: Started): Promise<Vm>;
  /**
   * Finds the VM of `spec` again: its processes by (pid, start time) where these are known, and by uid and directory
   * where the journal has none yet. Undefined when its monitor is not alive.
   * @param known `Vm.processes`, or none
   */
  adopt(spec: VmIdentity, known: readonly ProcessRef[]): Promise<Vm | undefined>;
  /**
   * The rest of monitors that have no process, as a look at one moment finds it.
   * @param owned ids of those that are there, or may be; asked once all that exists is listed
   */
  unowned(owned: () => ReadonlySet<string>): Promise<Leftover[]>;
}
