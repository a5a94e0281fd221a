/**
 * Snapshots of sandboxes: `{sandbox}/{checkpoint}/` below one directory, 0700. Checkpoints are counted from 1 on, whether a
 * pause or a copy of a running guest wrote them; the one that is being written is `{sandbox}/.{checkpoint}`.
 */
import { randomUUID } from 'node:crypto';
import { link, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ifThere, sync } from '@perch/node-kit';
import { type HostMachine, PerchError } from '@perch/protocol';
import type { DiskBackend, DiskState } from '../../disk/index.ts';
import { failpoint } from '../../failpoints/index.ts';
import {
  assertCompatible,
  type FileSum,
  hasMemory,
  type Manifest,
  memoryImageOf,
  type Occupied,
  openSnapshot,
  readManifest,
  readSnapshotJson,
  type Snapshot,
  SnapshotDamaged,
  SnapshotDirectory,
  SnapshotIncompatible,
  snapshotFiles,
  sumFile,
  whileInPlace,
} from '../../snapshot/index.ts';
import type { VmState } from '../../vmm/index.ts';
import type { DiskRoom, HeldIdentity, SandboxRecord } from '../journal/index.ts';
import { type Capture, capture } from './capture.ts';
import { assertBase, diskOf } from './disk.ts';
import { copyFlat, type FlatCopyTarget } from './flat-copy.ts';
import { CapturedIdentity, maxIdentityBytes, toHeld } from './identity.ts';

export interface SavedStatesOptions {
  /** Absolute; on the file system of the VMs' directories. */
  dir: string;
  disks: DiskBackend;
  room: DiskRoom;
  machine: HostMachine;
  /** Path of the base image with this content, as long as there is one. */
  baseImage: (contentId: string) => string | undefined;
  /** Checkpoints of a sandbox that are kept, the newest: at least 1. */
  keep: number;
}

/** Everything that a new life needs of the one before. */
export interface SavedState {
  /** Undefined when there is no memory, or none is wanted: a guest is booted from the disk. */
  vm: VmState | undefined;
  disk: DiskState;
  /** The identity that the guest agent in the memory believes in. */
  identity: HeldIdentity;
  /** Content ids of what the guest in the memory was booted from. */
  booted: Pick<SandboxRecord, 'kernel' | 'initramfs'>;
}

/** The part of `SavedStates` that others use. */
export type StateStore = Pick<SavedStates, keyof SavedStates>;

/** The checkpoint that a sandbox starts from. */
export const startCheckpoint = 0;

/** A committed checkpoint, for people. */
export interface Checkpoint {
  number: number;
  /** The checkpoint that was gone on from; null when it is not kept. */
  parent: number | null;
  kind: 'start' | 'pause' | 'snapshot';
  memory: boolean;
  createdAt: string;
  occupied: Occupied;
}

/** On top of what is written of memory, bytes: device state, headers, manifest, what changes meanwhile. */
const rest = 64 * 2 ** 20;

export class SavedStates {
  readonly #options: SavedStatesOptions;
  /** Checksums of base images by device and inode: they never change, and are read once. */
  readonly #baseSums = new Map<string, Promise<FileSum>>();

  constructor(options: SavedStatesOptions) {
    this.#options = options;
  }

  /** Removes what no sandbox of `owned` has, and what was being made or removed. */
  async start(owned: ReadonlySet<string>): Promise<string[]> {
    const { dir } = this.#options;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const unowned = (await readdir(dir)).filter((id) => !owned.has(id));
    for (const id of unowned) await rm(join(dir, id), { recursive: true, force: true });
    for (const id of owned) {
      const begun = (await this.#names(id)).filter((name) => name.startsWith('.'));
      for (const name of begun) await rm(join(dir, id, name), { recursive: true, force: true });
    }
    return unowned;
  }

  /**
   * Whether what a pause writes fits on the disk. Its admission has promised the sandbox that room.
   * @throws PerchError capacity_exhausted
   */
  async assertRoom({ id }: SandboxRecord, unsavedBytes: number): Promise<void> {
    await this.#options.room.requirePromised(
      unsavedBytes + rest,
      `The state of sandbox ${id}, which runs on,`,
    );
  }

  /**
   * Whether a copy fits on the disk, which has all of the memory.
   * @param guestBytes of a guest that runs, which are written as well
   * @param memory whether the copy has it
   * @throws PerchError capacity_exhausted
   */
  async assertCopyRoom({ id, memory_mb }: SandboxRecord, guestBytes: number, memory = true): Promise<void> {
    const memoryBytes = memory ? memory_mb * 2 ** 20 : 0;
    await this.#options.room.require(memoryBytes + guestBytes + rest, `A copy of sandbox ${id}`);
  }

  /**
   * Stops the guest and writes its state, as the checkpoint that its record counted last.
   * @returns milliseconds of each stage
   * @throws when it is not written; `drop` removes what was begun
   */
  async capture(from: Capture): Promise<Record<string, number>> {
    const { record } = from;
    const { disks, machine, baseImage } = this.#options;
    const parent =
      record.last_checkpoint === null ? undefined : await this.#open(record.id, record.last_checkpoint);
    if (parent && record.last_checkpoint === startCheckpoint && from.durable)
      await this.#keepStart(parent.directory);
    const below = parent?.rootfs === null ? snapshotFiles.rootfsExt4 : snapshotFiles.rootfsBase;
    const path = parent?.directory.file(below) ?? baseImage(record.base);
    if (path === undefined) throw new Error('The image that it was booted from is gone.');
    const sum = parent?.manifest.files[below] ?? (await this.#baseSum(path));
    const isOfGuest = record.last_checkpoint !== record.rebooted;
    return capture(from, {
      temporary: this.#temporary(record.id, record.captures),
      final: this.directory(record.id, record.captures),
      ...{ parent, base: { path, sum }, disks, machine },
      parentMemory: parent && isOfGuest ? memoryImageOf(parent) : undefined,
    });
  }

  /** The checkpoint that a sandbox started from, a fork's copy perhaps that nobody synced, lasts as long as what follows it. */
  async #keepStart(start: SnapshotDirectory): Promise<void> {
    await Promise.all((await start.names()).map((name) => sync(start.file(name))));
    await sync(start.path);
    // Its own name is new, too; of `{sandbox}` the commit takes care.
    await sync(this.#options.dir);
  }

  /**
   * Makes a snapshot what the first life of a sandbox goes on from; files are shared. What was read of it holds for
   * its links, which are the same files.
   * @param from one that is open is not read again; nobody removes or replaces it meanwhile
   * @throws SnapshotIncompatible when this host cannot go on from it; PerchError snapshot_damaged
   */
  async linkStart(id: string, from: Snapshot | SnapshotDirectory): Promise<SavedState> {
    const opened = from instanceof SnapshotDirectory ? await openSnapshot(from) : from;
    const temporary = this.#temporary(id, startCheckpoint);
    await temporary.ensure();
    const names = [...Object.keys(opened.manifest.files), snapshotFiles.manifest];
    const links = names.map((name) => link(opened.directory.file(name), temporary.file(name)));
    // Also after a failure nothing is made once this has settled.
    for (const linked of await Promise.allSettled(links))
      if (linked.status === 'rejected') throw linked.reason;
    failpoint('create.linked');
    const directory = this.directory(id, startCheckpoint);
    await rename(temporary.path, directory.path);
    try {
      return await this.#stateOf({ ...opened, directory }, true);
    } catch (cause) {
      throw cause instanceof SnapshotDamaged ? cause.toPerchError(id) : cause;
    }
  }

  /** @param memory as `copyFlat` @throws SnapshotDamaged */
  async copy(id: string, checkpoint: number, to: FlatCopyTarget, memory = true): Promise<void> {
    await copyFlat(await this.#open(id, checkpoint), to, memory);
  }

  /** Whether a checkpoint was committed. */
  async isComplete(id: string, checkpoint: number): Promise<boolean> {
    try {
      await readManifest(this.directory(id, checkpoint));
      return true;
    } catch (error) {
      if (error instanceof SnapshotDamaged) return false;
      throw error;
    }
  }

  /** Removes a checkpoint, committed or just begun; no error when there is none. */
  async drop(id: string, checkpoint: number): Promise<void> {
    await this.#temporary(id, checkpoint).remove();
    await this.directory(id, checkpoint).remove();
  }

  /** Makes a checkpoint one to go on from. The monitor that wrote it must be gone. Safe to repeat. */
  async settle(id: string, checkpoint: number): Promise<void> {
    await this.#options.disks.settle(this.directory(id, checkpoint).file(snapshotFiles.rootfsCow));
    failpoint('pause.sealed');
  }

  /** Removes all but the newest checkpoints, and what was begun. @param current is kept, whatever its age */
  async prune(id: string, current: number): Promise<void> {
    const checkpoints = await this.#checkpoints(id);
    const old = checkpoints.slice(0, -this.#options.keep).filter((checkpoint) => checkpoint !== current);
    for (const checkpoint of old) await this.directory(id, checkpoint).remove();
  }

  /** The checkpoints of a sandbox, the oldest first. Checkpoints that cannot be read are left out. */
  async history(id: string): Promise<Checkpoint[]> {
    const found: { number: number; manifest: Manifest; occupied: Occupied }[] = [];
    for (const number of await this.#checkpoints(id)) {
      const directory = this.directory(id, number);
      try {
        const manifest = await whileInPlace(directory, () => readManifest(directory));
        found.push({ number, manifest, occupied: await directory.occupied() });
      } catch (error) {
        if (!(error instanceof SnapshotDamaged)) throw error;
      }
    }
    return found.map(({ number, manifest, occupied }) => ({
      number,
      parent: found.find((one) => one.manifest.build_id === manifest.parent)?.number ?? null,
      kind: number === startCheckpoint || manifest.kind === 'copy' ? 'start' : manifest.kind,
      memory: hasMemory(manifest),
      createdAt: manifest.created_at,
      occupied,
    }));
  }

  /** Numbers of the checkpoints that a sandbox has, ascending. */
  async #checkpoints(id: string): Promise<number[]> {
    const names = await this.#names(id);
    return names
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .sort((a, b) => a - b);
  }

  async #names(id: string): Promise<string[]> {
    return (await ifThere(readdir(join(this.#options.dir, id)))) ?? [];
  }

  /**
   * @param memory whether the memory is wanted, if there is some
   * @throws PerchError checkpoint_not_found, snapshot_damaged, resume_failed when this host cannot go on from it
   */
  async open(id: string, checkpoint: number, memory = true): Promise<SavedState> {
    if (!(await this.#checkpoints(id)).includes(checkpoint)) {
      const details = { id, checkpoint };
      throw new PerchError('checkpoint_not_found', `Sandbox ${id} has no checkpoint ${checkpoint}.`, details);
    }
    try {
      return await this.#stateOf(await this.#open(id, checkpoint), memory);
    } catch (cause) {
      if (cause instanceof SnapshotDamaged) throw cause.toPerchError(id);
      if (!(cause instanceof SnapshotIncompatible)) throw cause;
      const reason = cause.message;
      throw new PerchError(
        'resume_failed',
        `Nothing can go on from the state of sandbox ${id} on this host. ${reason}`,
        { id, reason },
        { cause },
      );
    }
  }

  /** @throws SnapshotDamaged, SnapshotIncompatible */
  async #stateOf(snapshot: Snapshot, memory: boolean): Promise<SavedState> {
    const image = memory ? memoryImageOf(snapshot) : undefined;
    if (image) assertCompatible(snapshot, this.#options.machine);
    const { manifest } = snapshot;
    const { identity, snapfile } = snapshotFiles;
    const [captured] = await Promise.all([
      readSnapshotJson(snapshot, identity, CapturedIdentity, maxIdentityBytes),
      assertBase(snapshot),
    ]);
    return {
      vm: image && { image, devices: snapshot.directory.file(snapfile) },
      disk: diskOf(snapshot),
      identity: toHeld(captured),
      booted: { kernel: manifest.kernel_content_id, initramfs: manifest.initramfs_content_id },
    };
  }

  /** Makes all checkpoints of one those of another, which has none; no error when it is done already. */
  async moveAll(from: string, to: string): Promise<void> {
    const { dir } = this.#options;
    await ifThere(rename(join(dir, from), join(dir, to)));
  }

  /** All that there is of a sandbox; no error when there is nothing. */
  async removeAll(id: string): Promise<void> {
    await rm(join(this.#options.dir, id), { recursive: true, force: true });
  }

  /** Where there may be something of a sandbox: a directory for each checkpoint. */
  async paths(id: string): Promise<string[]> {
    return (await this.#names(id)).map((name) => join(this.#options.dir, id, name));
  }

  /** A directory beside those of the sandboxes, which goes at the end of its scope. */
  async scratch(): Promise<{ path: string } & AsyncDisposable> {
    const path = join(this.#options.dir, `.made-${randomUUID()}`);
    await mkdir(path, { mode: 0o700 });
    return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
  }

  #open(id: string, checkpoint: number): Promise<Snapshot> {
    return openSnapshot(this.directory(id, checkpoint));
  }

  async #baseSum(path: string): Promise<FileSum> {
    const { dev, ino } = await stat(path);
    const key = `${dev}:${ino}`;
    const known = this.#baseSums.get(key);
    if (known) return known;
    const sum = sumFile(path, snapshotFiles.rootfsBase);
    this.#baseSums.set(key, sum);
    sum.catch(() => this.#baseSums.delete(key));
    return sum;
  }

  /** Where a checkpoint is, or would be. */
  directory(id: string, checkpoint: number): SnapshotDirectory {
    return new SnapshotDirectory(join(this.#options.dir, id, `${checkpoint}`));
  }

  #temporary(id: string, checkpoint: number): SnapshotDirectory {
    return new SnapshotDirectory(join(this.#options.dir, id, `.${checkpoint}`));
  }
}
