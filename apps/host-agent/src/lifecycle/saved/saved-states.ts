/**
 * Snapshots of sandboxes: `{sandbox}/{life}/` below one directory, 0700. The one of a life that is being
 * written is `{sandbox}/.{life}`.
 */
import { link, mkdir, readdir, rename, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { PerchError } from '@perch/protocol';
import type { DiskLayer } from '../../disk/index.ts';
import {
  ancestorRootfsCow,
  assertCompatible,
  type FileSum,
  openSnapshot,
  readManifest,
  readSnapshotJson,
  type Snapshot,
  SnapshotDamaged,
  SnapshotDirectory,
  SnapshotIncompatible,
  snapshotFiles,
  sumFile,
} from '../../snapshot/index.ts';
import type { GuestMemory, MonitorMachine, VmState } from '../../vmm/index.ts';
import type { HeldIdentity, SandboxRecord } from '../journal.ts';
import { type Capture, capture } from './capture.ts';
import { CapturedIdentity } from './identity.ts';
import { fillChanges, flatMemoryOf } from './memory.ts';

export interface SavedStatesOptions {
  /** Absolute; on the file system of the VMs' directories. */
  dir: string;
  disks: DiskLayer;
  machine: MonitorMachine;
  /** Path of the base image with this content, as long as a template has it. */
  baseImage: (contentId: string) => string | undefined;
}

/** Everything that a new life needs of the one before. */
export interface SavedState {
  vm: VmState;
  /** Image below all layers, and the layers from the lowest up. */
  disk: { base: string; layers: string[] };
  /** What the guest agent believes. */
  identity: HeldIdentity;
}

/** What others use of `SavedStates`. */
export type StateStore = Pick<SavedStates, keyof SavedStates>;

/** The life that a template stands for. */
export const beforeFirstLife = 0;

/** On top of what a pause writes of memory, MiB: device state, headers, manifest, what changes meanwhile. */
const roomMb = 64;

export class SavedStates {
  readonly #options: SavedStatesOptions;
  /** Checksums of base images by device and inode: they never change, and are read once. */
  readonly #baseSums = new Map<string, Promise<FileSum>>();

  constructor(options: SavedStatesOptions) {
    this.#options = options;
  }

  /** Removes what no sandbox of `owned` has. */
  async start(owned: ReadonlySet<string>): Promise<string[]> {
    const { dir } = this.#options;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const unowned = (await readdir(dir)).filter((id) => !owned.has(id));
    for (const id of unowned) await rm(join(dir, id), { recursive: true, force: true });
    return unowned;
  }

  /** @throws PerchError capacity_exhausted when what `memory` has changed does not fit on the disk */
  async assertRoom({ id }: SandboxRecord, memory: GuestMemory): Promise<void> {
    const bytes = memory.changed().reduce((sum, { length }) => sum + length, 0);
    const requested = Math.ceil(bytes / 2 ** 20) + roomMb;
    const fs = await statfs(this.#options.dir);
    const available = Math.floor((fs.bavail * fs.bsize) / 2 ** 20);
    if (requested <= available) return;
    throw new PerchError(
      'capacity_exhausted',
      `Sandbox ${id} cannot be paused: its state needs ${requested} MiB of disk, and the host has ${available} MiB left. It runs on.`,
      { resource: 'disk', requested, available },
    );
  }

  /**
   * Stops the guest and writes its state.
   * @returns milliseconds of each stage
   * @throws when it is not written; `drop` removes what was begun
   */
  async capture(from: Capture): Promise<Record<string, number>> {
    const { record } = from;
    const { disks, machine, baseImage } = this.#options;
    const parent = record.snapshot === null ? undefined : await this.#open(record.id, record.snapshot);
    const path =
      parent?.directory.file(snapshotFiles.rootfsBase) ?? baseImage(record.base) ?? disks.base(from.dir);
    const sum = parent?.manifest.files[snapshotFiles.rootfsBase] ?? (await this.#baseSum(path));
    return capture(from, {
      temporary: this.#temporary(record.id, record.generation),
      final: this.directory(record.id, record.generation),
      ...{ parent, base: { path, sum }, disks, machine },
    });
  }

  /** Makes `template` what the first life of a sandbox goes on from; files are shared. */
  async begin(id: string, template: SnapshotDirectory): Promise<void> {
    const temporary = this.#temporary(id, beforeFirstLife);
    await temporary.remove();
    await temporary.ensure();
    for (const name of await template.names()) await link(template.file(name), temporary.file(name));
    await rename(temporary.path, this.directory(id, beforeFirstLife).path);
  }

  /** Whether the snapshot of a life was committed. */
  async isComplete(id: string, generation: number): Promise<boolean> {
    try {
      await readManifest(this.directory(id, generation));
      return true;
    } catch (error) {
      if (error instanceof SnapshotDamaged) return false;
      throw error;
    }
  }

  /** Removes a snapshot that was begun and not committed. */
  async drop(id: string, generation: number): Promise<void> {
    await this.#temporary(id, generation).remove();
  }

  /** Makes the snapshot of a life the sandbox's only one. Its monitor must be gone. Safe to repeat. */
  async settle(id: string, generation: number): Promise<void> {
    await this.#options.disks.seal(this.directory(id, generation).file(snapshotFiles.rootfsCow));
    const all = join(this.#options.dir, id);
    for (const name of await readdir(all)) {
      if (name !== `${generation}`) await new SnapshotDirectory(join(all, name)).remove();
    }
  }

  /** @throws PerchError snapshot_damaged, resume_failed when this host cannot go on from it */
  async open(id: string, generation: number): Promise<SavedState> {
    try {
      const snapshot = await this.#open(id, generation);
      const { version, accelerator, kind, cpu } = this.#options.machine;
      assertCompatible(snapshot.manifest, { monitor: { kind, version, accelerator }, cpu });
      const { directory, rootfs } = snapshot;
      if (!rootfs) throw new SnapshotDamaged(snapshotFiles.rootfsMeta, 'is missing');
      const captured = await readSnapshotJson(snapshot, snapshotFiles.identity, CapturedIdentity);
      const layers = rootfs.layers.map((layer) => directory.file(ancestorRootfsCow(layer)));
      return {
        vm: {
          memory: flatMemoryOf(snapshot).path,
          devices: directory.file(snapshotFiles.snapfile),
          fill: (memory) => fillChanges(snapshot, memory),
        },
        disk: {
          base: directory.file(snapshotFiles.rootfsBase),
          layers: [...layers, directory.file(snapshotFiles.rootfsCow)],
        },
        identity: { accessToken: captured.access_token, number: captured.number },
      };
    } catch (cause) {
      if (cause instanceof SnapshotDamaged) throw cause.toPerchError(id);
      if (!(cause instanceof SnapshotIncompatible)) throw cause;
      const reason = cause.message;
      throw new PerchError(
        'resume_failed',
        `Sandbox ${id} is still paused. ${reason}`,
        { id, reason },
        { cause },
      );
    }
  }

  /** All that there is of a sandbox; no error when there is nothing. */
  async removeAll(id: string): Promise<void> {
    await rm(join(this.#options.dir, id), { recursive: true, force: true });
  }

  /** Bytes that go when the sandbox goes. */
  async occupied(id: string): Promise<number> {
    const all = join(this.#options.dir, id);
    const names = await readdir(all).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    const each = await Promise.all(names.map((name) => new SnapshotDirectory(join(all, name)).occupied()));
    return each.reduce((sum, { ownBytes }) => sum + ownBytes, 0);
  }

  #open(id: string, generation: number): Promise<Snapshot> {
    return openSnapshot(this.directory(id, generation));
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

  /** Where the snapshot of a life is, or would be. */
  directory(id: string, generation: number): SnapshotDirectory {
    return new SnapshotDirectory(join(this.#options.dir, id, `${generation}`));
  }

  #temporary(id: string, generation: number): SnapshotDirectory {
    return new SnapshotDirectory(join(this.#options.dir, id, `.${generation}`));
  }
}
