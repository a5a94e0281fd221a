/** A disk back end, as Perch uses it. One back end a folder beside this file. */
import type { LayerFormat } from '@perch/protocol';
import type { Leftover } from '../linux/index.ts';
import type { DiskState, FileDisk, VmDisk } from './disk.ts';

/** Where the disk of a VM is. */
export interface DiskPlace {
  /** The VM's, which names what is not a file. */
  id: string;
  /** The VM's directory, on the file system of all states: files of the disk lie in it. */
  dir: string;
}

export interface DiskSpec extends DiskPlace {
  /** The VM's user: may write the uppermost file or device, and read what lies below. */
  uid: number;
  /** Size that the guest sees, bytes; at least that of the image. */
  sizeBytes: number;
}

/** Where a tool of the back end reads files that guests have written. */
export interface ToolPlace {
  /** An empty directory of `uid`, on the file system of all files. The caller removes all that is made in it. */
  dir: string;
  /** A user that owns nothing else. */
  uid: number;
  /** Size that the guest sees, bytes. */
  sizeBytes: number;
  timeoutMs: number;
  signal?: AbortSignal;
  /**
   * Called with the most that it takes on the host, bytes, before any of it is written.
   * @throws PerchError capacity_exhausted
   */
  admit: (bytes: number) => Promise<void>;
  /** Awaited before each step of a few MiB of work that nobody waits for. Tools of it let everything else go first. */
  rest?: (() => Promise<void>) | undefined;
}

/** A tool could not be ended, as one that waits for a broken disk: nobody else may be its user meanwhile. */
export class UserStillRuns extends Error {
  override readonly name = 'UserStillRuns';
  readonly uid: number;

  constructor(uid: number, options: { cause: unknown }) {
    super(`A tool of the user ${uid} has been killed and does not end.`, options);
    this.uid = uid;
  }
}

/** The disk of a VM is not where it was made. */
export class DiskGone extends Error {
  override readonly name = 'DiskGone';
}

/** The monitor that has the disk open, as a back end uses it. */
export interface DiskUser {
  /**
   * Opens `next`, which is empty and whose `below` is left to the monitor: that is the disk as the guest has it.
   * @returns what has the guest write to it from then on, for a moment when it is stopped: what it wrote before is
   * written out, stays below, and is not changed any more
   */
  prepareSwitch(next: FileDisk): Promise<() => Promise<void>>;
}

/** A capture of a disk, from before its guest is stopped until all of it has its names. */
export interface DiskCapture {
  /**
   * To be called once while a guest is stopped that runs on afterwards: what it has written until then stands still
   * from then on. Of a guest that stays stopped it need not be called.
   */
  holdStill(): Promise<void>;
  /**
   * Puts what was captured on the disk and gives it names. Of a guest that stays stopped the uppermost file may
   * still be written by its monitor: `settle` makes it one to go on from.
   * @param parent what the guest went on from
   * @param nameOf gives a path, on the file system of the disk, for a file that is not of the parent: from the lowest
   *   up, the uppermost last and exactly once
   * @returns its files are those that were named and, where states share them, those of the parent
   * @throws when a file is not the one that was made, which a monitor could have changed for another
   */
  write(parent: DiskState, nameOf: (place: 'below' | 'uppermost') => string): Promise<DiskState>;
}

/** The ways in which back ends differ. `docs/architecture/host-agent.md` has a table of them. */
export interface DiskCapabilities {
  /** Of its copy-on-write files, as `rootfs.meta` names it: no other back end can go on from them. */
  format: LayerFormat;
  /** The disk that its monitor opens. */
  opens: VmDisk['kind'];
  /** Whether a state is what was written since its parent, over the files of that; else each has all of it. */
  sharesLayers: boolean;
  /** How the disk of a guest that runs on is captured: it writes to another file, or the file is cloned. */
  online: 'switch' | 'clone';
  /** When the room that is promised to one life is taken: all of it `ahead`, or what the guest has `written`. */
  takesRoom: 'ahead' | 'written';
}

export interface DiskBackend {
  readonly capabilities: DiskCapabilities;
  /**
   * Makes a disk that goes on from a state. Never touches one that exists: that is an error.
   * @throws when it cannot; what it made is removed then
   */
  create(spec: DiskSpec, from: DiskState): Promise<VmDisk>;
  /**
   * Finds the disk of a VM that runs since before this process did, as it is now.
   * @throws DiskGone when it is not there
   */
  adopt(spec: DiskSpec): Promise<VmDisk>;
  /** Removes the disk; no error when there is none. The monitor must be gone. */
  remove(place: DiskPlace): Promise<void>;
  /**
   * The rest of disks outside of the directories of their VMs, as a look at one moment finds it.
   * @param owned ids of the VMs that are there, or may be; asked once all that exists is listed
   */
  unowned(owned: () => ReadonlySet<string>): Promise<Leftover[]>;
  /**
   * Begins a capture before the guest is stopped: makes what can be made while it runs.
   * @param runsOn the monitor of a guest that is to run on afterwards
   * @throws Error when the disk may not be captured in this life any more, see `mergeNeed`
   */
  prepareCapture(spec: DiskSpec, runsOn: DiskUser | undefined): Promise<DiskCapture>;
  /**
   * Makes the uppermost file that a capture has named what a base of others must be: root's, and never written again.
   * The monitor that wrote it must be gone. Safe to repeat.
   */
  settle(uppermost: string): Promise<void>;
  /**
   * Looks whether the disk of a guest that runs still works, without waiting for it: the guest would run on with
   * errors, and lose what it does. Undefined where the monitor tells of it.
   */
  readonly lossOf?: (place: DiskPlace) => DiskGone | undefined;
  /**
   * Bytes of those promised that have taken room on the host already, see `takesRoom`, and take no more when they are
   * written again. 0 without a disk.
   */
  takenBytes(place: DiskPlace): Promise<number>;
  /** The most that a capture of a guest that runs on takes beside what is promised to its life, bytes on the host. */
  copyBytes(place: DiskPlace): Promise<number>;
  /** The most that one life writes, bytes on the host. @param sizeBytes that the guest sees */
  promisedBytes(sizeBytes: number): number;
  /**
   * Whether the layers of a state are to be merged: `now` when nothing may go on from it before that is done, `soon`
   * when there are more than `maxLayers`. With it what disks have and occupy is bounded.
   */
  mergeNeed(state: DiskState, sizeBytes: number, maxLayers?: number): Promise<'now' | 'soon' | undefined>;
  /**
   * Merges the layers of a state into one over the same image.
   * @returns its path, in the directory of the tool; root-owned, 0444, synced
   * @throws Error with code ENOSPC when the host's disk was full; what `signal` was aborted with; UserStillRuns
   */
  merge(state: DiskState, tool: ToolPlace): Promise<string>;
  /** Merges image and layers into a raw image of its own. @returns and @throws as `merge` */
  flatten(state: DiskState, tool: ToolPlace): Promise<string>;
}
