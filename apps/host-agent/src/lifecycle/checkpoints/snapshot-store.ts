/**
 * Snapshots with names: what sandboxes can be created from beside images. `{name}/` below one directory, 0700.
 * Names that begin with a dot are what is being made, replaced or removed.
 */
import { randomUUID } from 'node:crypto';
import { link, mkdir, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, sync } from '@perch/node-kit';
import { PerchError, type Snapshot as SnapshotView } from '@perch/protocol';
import type { Logger } from 'pino';
import { failpoint } from '../../failpoints/index.ts';
import {
  hasMemory,
  openSnapshot,
  type Snapshot,
  SnapshotDamaged,
  SnapshotDirectory,
} from '../../snapshot/index.ts';
import { asDiskFull, Mutex } from '../journal/index.ts';
import type { FlatCopyTarget } from './flat-copy.ts';

/** Writes a snapshot that nobody sees yet. */
export type MakeSnapshot = (to: FlatCopyTarget) => Promise<void>;

export interface SnapshotStoreOptions {
  /** Absolute; on the file system of the snapshots of sandboxes. */
  dir: string;
  log: Logger;
}

/** A directory that goes at the end of its scope. */
export interface Scratch extends AsyncDisposable {
  directory: SnapshotDirectory;
}

export class SnapshotStore {
  readonly #options: SnapshotStoreOptions;
  /** The snapshot of a name changes by renames, one at a time, so that whoever links its files gets all of one. */
  readonly #mutex = new Mutex();

  constructor(options: SnapshotStoreOptions) {
    this.#options = options;
  }

  /** Finishes what was cut off: a replacement leaves the old one or the new one. */
  async start(): Promise<void> {
    const { dir, log } = this.#options;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const names = await readdir(dir);
    for (const hidden of names.filter((name) => name.startsWith('.'))) {
      const replaced = hidden.startsWith(replacedPrefix) ? hidden.slice(replacedPrefix.length) : undefined;
      if (replaced !== undefined && !names.includes(replaced)) {
        log.warn({ snapshot: replaced }, 'a snapshot was being replaced, and stays as it was');
        await rename(join(dir, hidden), join(dir, replaced));
      } else {
        await this.#directory(hidden).remove();
      }
    }
  }

  /** @throws PerchError snapshot_exists */
  async assertFree(name: string): Promise<void> {
    if (!(await this.#directory(name).isThere())) return;
    throw new PerchError('snapshot_exists', `There is a snapshot ${name} already.`, { name });
  }

  /**
   * Makes one of this name, or nothing.
   * @param replace whether it takes the place of another
   * @throws PerchError snapshot_exists; what `make` throws
   */
  async create(name: string, replace: boolean, make: MakeSnapshot): Promise<void> {
    await using made = await this.scratch(make, true);
    await this.#mutex.run(async () => {
      if (!replace) await this.assertFree(name);
      await this.#place(made.directory, name);
    });
  }

  /**
   * Puts what `make` makes of a snapshot in its place.
   * @throws PerchError snapshot_not_found; snapshot_in_use when it was replaced or removed meanwhile
   */
  async change(name: string, make: (from: Snapshot, to: FlatCopyTarget) => Promise<void>): Promise<void> {
    // Links of its own, so that whatever becomes of the name changes nothing below it.
    await using held = await this.scratch(async ({ temporary, final }) => {
      await this.use(name, async ({ directory }) => {
        await temporary.ensure();
        for (const file of await directory.names()) await link(directory.file(file), temporary.file(file));
      });
      await rename(temporary.path, final.path);
    });
    failpoint('flatten.held');
    const from = await openSnapshot(held.directory);
    await using made = await this.scratch((to) => make(from, to), true);
    failpoint('flatten.made');
    await this.#mutex.run(async () => {
      const now = await this.#open(name);
      // Of one build the layers may be others by now: those would be lost.
      if (now.manifest.build_id !== from.manifest.build_id || now.rootfs?.format !== from.rootfs?.format) {
        const message = `The snapshot ${name} was replaced meanwhile.`;
        throw new PerchError('snapshot_in_use', message, { name, by: 'another snapshot of that name' });
      }
      await this.#place(made.directory, name);
    });
  }

  /** A snapshot without a name, for as long as it is in scope. @throws PerchError host_disk_full; what `make` throws */
  async scratch(make: MakeSnapshot, durable = false): Promise<Scratch> {
    const id = randomUUID();
    const temporary = this.#directory(`.new-${id}`);
    const directory = this.#directory(`.made-${id}`);
    try {
      await make({ temporary, final: directory, durable });
    } catch (error) {
      await temporary.remove();
      await directory.remove();
      throw asDiskFull(error);
    }
    return { directory, [Symbol.asyncDispose]: () => directory.remove() };
  }

  /** Has `use` look at, or link, the files of one, which stay what they are meanwhile. @throws as `open` */
  use<T>(name: string, use: (snapshot: Snapshot) => Promise<T>): Promise<T> {
    return this.#mutex.run(async () => use(await this.#open(name)));
  }

  /** @throws PerchError snapshot_not_found, snapshot_damaged */
  async get(name: string): Promise<SnapshotView> {
    return view(name, await this.#open(name));
  }

  /** By name, without those that are damaged. */
  async list(): Promise<SnapshotView[]> {
    const { dir, log } = this.#options;
    const names = (await readdir(dir)).filter((name) => !name.startsWith('.')).sort();
    const all = names.map((name) =>
      this.get(name).catch((err: unknown) => {
        log.error({ err, snapshot: name }, 'a snapshot cannot be read');
        return undefined;
      }),
    );
    return (await Promise.all(all)).filter((one) => one !== undefined);
  }

  /** Sandboxes that were made from it live on by hard links of their own. @throws PerchError snapshot_not_found */
  async remove(name: string): Promise<void> {
    const away = this.#directory(`.made-${randomUUID()}`);
    await this.#mutex.run(async () => {
      try {
        await rename(this.#directory(name).path, away.path);
      } catch (cause) {
        throw hasCode(cause, 'ENOENT') ? unknown(name) : cause;
      }
      failpoint('remove.renamed');
      await sync(this.#options.dir);
    });
    await away.remove();
    failpoint('remove.removed');
  }

  async #place(made: SnapshotDirectory, name: string): Promise<void> {
    const target = this.#directory(name);
    const replaced = this.#directory(`${replacedPrefix}${name}`);
    const replaces = await target.isThere();
    if (replaces) {
      // Left when what was replaced before could not be removed.
      await replaced.remove();
      await rename(target.path, replaced.path);
    }
    failpoint('snapshot.replaced');
    await rename(made.path, target.path);
    await sync(this.#options.dir);
    failpoint('snapshot.placed');
    if (replaces) await replaced.remove();
  }

  async #open(name: string): Promise<Snapshot> {
    const directory = this.#directory(name);
    try {
      return await openSnapshot(directory);
    } catch (cause) {
      if (!(cause instanceof SnapshotDamaged)) throw cause;
      if (!(await directory.isThere())) throw unknown(name);
      throw cause.toPerchError(name);
    }
  }

  #directory(name: string): SnapshotDirectory {
    return new SnapshotDirectory(join(this.#options.dir, name));
  }
}

const replacedPrefix = '.replaced-';

async function view(name: string, { directory, manifest, rootfs }: Snapshot): Promise<SnapshotView> {
  const { ownBytes, sharedBytes } = await directory.occupied();
  const { vcpus, memory_mb, disk_mb } = manifest.machine;
  return {
    ...{ name, type: 'snapshot', template: manifest.template, vcpus, memory_mb, disk_mb },
    ...{ size_bytes: ownBytes + sharedBytes, own_bytes: ownBytes, shared_bytes: sharedBytes },
    standalone: rootfs === null,
    disk_format: rootfs?.format ?? 'image',
    memory: hasMemory(manifest),
    sandbox_id: manifest.sandbox_id,
    created_at: manifest.created_at,
  };
}

function unknown(name: string): PerchError {
  return new PerchError('snapshot_not_found', `There is no snapshot ${name}.`, { name });
}
