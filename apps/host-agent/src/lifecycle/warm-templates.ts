/**
 * Booted guests as files, one for each machine shape that was asked for: what every sandbox starts from. A
 * shape is booted once, by the first who asks; those who ask meanwhile wait for the same boot.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, rename, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { openSnapshot, SnapshotDamaged, SnapshotDirectory } from '../snapshot/index.ts';
import type { MonitorMachine } from '../vmm/index.ts';

/** Everything that a booted guest depends on. */
export interface WarmShape {
  /** Content ids. */
  base: string;
  kernel: string;
  initramfs: string;
  vcpus: number;
  memory_mb: number;
  disk_mb: number;
}

export interface WarmTemplatesOptions {
  /** Absolute; on the file system of the snapshots of sandboxes. */
  dir: string;
  machine: MonitorMachine;
  /** Shapes that are kept; the one that was not asked for longest goes. */
  limit: number;
  log: Logger;
}

/** Boots a guest of the shape, and has `keep` take its snapshot over before anything of it is removed. */
export type BootShape = (
  shape: WarmShape,
  keep: (snapshot: SnapshotDirectory) => Promise<void>,
) => Promise<void>;

export class WarmTemplates {
  readonly #options: WarmTemplatesOptions;
  readonly #booting = new Map<string, Promise<SnapshotDirectory>>();

  constructor(options: WarmTemplatesOptions) {
    this.#options = options;
  }

  /** Removes what is damaged, and what another kernel, guest agent, image or monitor made. */
  async start(current: (base: string) => Pick<WarmShape, 'kernel' | 'initramfs'> | undefined): Promise<void> {
    const { dir, log } = this.#options;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    for (const key of await readdir(dir)) {
      const directory = this.#directory(key);
      if ((await this.#keyOf(directory, current)) === key) continue;
      log.info({ key }, 'a warm template is of no use any more');
      await directory.remove();
    }
  }

  /** The snapshot of a guest of this shape, which is booted where there is none yet. */
  async get(shape: WarmShape, boot: BootShape): Promise<SnapshotDirectory> {
    const key = this.#key(shape);
    const directory = this.#directory(key);
    const under = this.#booting.get(key);
    if (under) return under;
    if (await directory.exists()) {
      const now = new Date();
      await utimes(directory.path, now, now);
      return directory;
    }
    // Somebody else may have begun while we looked.
    const booting = this.#booting.get(key) ?? this.#boot(key, shape, boot);
    this.#booting.set(key, booting);
    return booting.finally(() => this.#booting.delete(key));
  }

  async #boot(key: string, shape: WarmShape, boot: BootShape): Promise<SnapshotDirectory> {
    const directory = this.#directory(key);
    await boot(shape, (snapshot) => rename(snapshot.path, directory.path));
    await this.#evict(key);
    return directory;
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
      log.info({ key }, 'a warm template gives way to another');
      await this.#directory(key).remove();
    }
  }

  async #keyOf(
    directory: SnapshotDirectory,
    current: (base: string) => Pick<WarmShape, 'kernel' | 'initramfs'> | undefined,
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

  #key({ base, kernel, initramfs, vcpus, memory_mb, disk_mb }: WarmShape): string {
    const { kind, version, accelerator, cpu } = this.#options.machine;
    const all = [base, kernel, initramfs, vcpus, memory_mb, disk_mb, kind, version, accelerator, cpu];
    return createHash('sha256').update(JSON.stringify(all)).digest('hex').slice(0, 32);
  }

  #directory(key: string): SnapshotDirectory {
    return new SnapshotDirectory(join(this.#options.dir, key));
  }
}
