/**
 * Booted guests as files, one for each machine shape that was asked for: what every sandbox starts from. A
 * shape is booted once, by the first who asks; those who ask meanwhile wait for the same boot.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, rename, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostMachine } from '@perch/protocol';
import type { Logger } from 'pino';
import { failpoint } from '../../failpoints/index.ts';
import {
  openSnapshot,
  type Snapshot,
  SnapshotDamaged,
  SnapshotDirectory,
  snapshotFiles,
  verifyFiles,
} from '../../snapshot/index.ts';
import { Mutex } from '../journal/index.ts';
import { aborted } from './aborted.ts';

/** Everything that a booted guest depends on. */
export interface GuestShape {
  /** Content ids. */
  base: string;
  kernel: string;
  initramfs: string;
  vcpus: number;
  memory_mb: number;
  disk_mb: number;
}

export interface BootSnapshotsOptions {
  /** Absolute; on the file system of the snapshots of sandboxes. */
  dir: string;
  machine: HostMachine;
  /** Shapes that are kept; the one that was not asked for longest goes. */
  limit: number;
  log: Logger;
}

/** Boots a guest of the shape, and has `keep` take its snapshot over before anything of it is removed. */
export type BootGuest = (
  shape: GuestShape,
  keep: (snapshot: SnapshotDirectory) => Promise<void>,
) => Promise<void>;

/** A boot snapshot that was just made may go at once for others, or be damaged; not time and again. */
const mostBoots = 3;

export class BootSnapshots {
  readonly #options: BootSnapshotsOptions;
  readonly #booting = new Map<string, Promise<void>>();
  /** They come and go by renames, one at a time, so that whoever links the files of one gets all of them. */
  readonly #mutex = new Mutex();

  constructor(options: BootSnapshotsOptions) {
    this.#options = options;
  }

  /** Removes what is damaged, and what another kernel, guest agent, image or monitor made. */
  async start(
    current: (base: string) => Pick<GuestShape, 'kernel' | 'initramfs'> | undefined,
  ): Promise<void> {
    const { dir, log } = this.#options;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    for (const key of await readdir(dir)) {
      const directory = this.#directory(key);
      if ((await this.#keyOf(directory, current)) === key) continue;
      log.info({ key }, 'a boot snapshot is of no use any more');
      await directory.remove();
    }
  }

  /**
   * Has `use` link the files of a guest of this shape, which is booted where there is none that is whole.
   * @param signal cuts short all but `use` itself, which does not begin afterwards. @throws what it was aborted with
   */
  async use<T>(
    shape: GuestShape,
    boot: BootGuest,
    use: (snapshot: Snapshot) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const key = this.#key(shape);
    for (let boots = 0; ; boots++) {
      const used = await this.#mutex.run(async () => {
        const whole = await this.#whole(key);
        if (!whole) return undefined;
        signal.throwIfAborted();
        return { value: await use(whole) };
      });
      if (used) return used.value;
      if (boots === mostBoots) throw new Error('Each guest of this shape was damaged or gone at once.');
      const booting = this.#booting.get(key) ?? this.#boot(key, shape, boot);
      this.#booting.set(key, booting);
      await Promise.race([booting.finally(() => this.#booting.delete(key)), aborted(signal)]);
    }
  }

  /** Removes one, whoever is about to use it; the next who asks boots another. */
  remove(key: string): Promise<void> {
    return this.#mutex.run(() => this.#directory(key).remove());
  }

  /** The one that can be used, which counts as asked for. A damaged one goes. */
  async #whole(key: string): Promise<Snapshot | undefined> {
    const directory = this.#directory(key);
    if (!(await directory.isThere())) return undefined;
    try {
      const snapshot = await openSnapshot(directory);
      await verifyFiles(snapshot, [snapshotFiles.snapfile, snapshotFiles.identity]);
      const now = new Date();
      await utimes(directory.path, now, now);
      return snapshot;
    } catch (err) {
      if (!(err instanceof SnapshotDamaged)) throw err;
      this.#options.log.warn({ err, key }, 'a boot snapshot is damaged, and is made again');
      await directory.remove();
      return undefined;
    }
  }

  async #boot(key: string, shape: GuestShape, boot: BootGuest): Promise<void> {
    const place = this.#directory(key).path;
    await boot(shape, (snapshot) => this.#mutex.run(() => rename(snapshot.path, place)));
    await this.#mutex.run(() => this.#evict(key));
  }

  /** Sandboxes keep what they started from by hard links of their own. */
  async #evict(newest: string): Promise<void> {
    const { dir, limit, log } = this.#options;
    const names = (await readdir(dir)).filter((key) => key !== newest && !this.#booting.has(key));
    const used = await Promise.all(
      names.map(async (key) => ({ key, at: (await stat(join(dir, key))).mtimeMs })),
    );
    const old = used.sort((a, b) => b.at - a.at).slice(Math.max(0, limit - 1));
    for (const { key } of old) {
      log.info({ key }, 'a boot snapshot gives way to another');
      failpoint('evict.chosen');
      await this.#directory(key).remove();
      failpoint('evict.removed');
    }
  }

  async #keyOf(
    directory: SnapshotDirectory,
    current: (base: string) => Pick<GuestShape, 'kernel' | 'initramfs'> | undefined,
  ): Promise<string | undefined> {
    try {
      const { manifest, rootfs } = await openSnapshot(directory);
      const base = rootfs?.base_content_id ?? '';
      const boot = current(base);
      return boot && this.#key({ base, ...boot, ...manifest.machine });
    } catch (error) {
      if (error instanceof SnapshotDamaged) return undefined;
      throw error;
    }
  }

  #key({ base, kernel, initramfs, vcpus, memory_mb, disk_mb }: GuestShape): string {
    const { monitor, cpu, disk } = this.#options.machine;
    const { kind, version, accelerator } = monitor;
    const guest = [base, kernel, initramfs, vcpus, memory_mb, disk_mb];
    const all = [...guest, kind, version, accelerator, cpu, disk.format];
    return createHash('sha256').update(JSON.stringify(all)).digest('hex').slice(0, 32);
  }

  #directory(key: string): SnapshotDirectory {
    return new SnapshotDirectory(join(this.#options.dir, key));
  }
}
