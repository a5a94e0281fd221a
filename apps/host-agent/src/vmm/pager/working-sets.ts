/**
 * The pages that guests asked for first when they went on, by the state that they went on from: the next one to go on
 * from it asks for the same. Hints, which a pager writes and reads: nothing is lost with them.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, ifThere } from '@perch/node-kit';
import type { BuildId } from '../../snapshot/index.ts';

export interface Prefetch {
  /** Where they are kept. */
  dir: string;
  /** The most of a guest's memory that is put in place ahead. */
  limitMib: number;
}

/** That are kept, the newest. */
const maxKept = 256;
/** As crates/pager/src/working_set.rs has it: a name of eight bytes, and 65,536 pages of four. */
const maxBytes = 8 + 4 * 65_536;
const headBytes = 8;
const safely = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export class WorkingSets {
  readonly limitMib: number;
  readonly #dir: string;

  constructor({ dir, limitMib }: Prefetch) {
    this.#dir = dir;
    this.limitMib = limitMib;
  }

  /** Opens the one of a state; undefined when nobody has gone on from it. */
  async open(build: BuildId): Promise<FileHandle | undefined> {
    return await ifThere(open(join(this.#dir, build), safely));
  }

  /**
   * Takes over what a pager has written, unless there is one of this state.
   * @param path in the VM's directory: only a file of ours is believed to be the one
   */
  async keep(build: BuildId, path: string): Promise<void> {
    const kept = join(this.#dir, build);
    if (await ifThere(stat(kept))) return;
    const bytes = await ifThere(read(path));
    if (!bytes || bytes.length <= headBytes) return;
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const temporary = join(this.#dir, `.${randomUUID()}`);
    try {
      await writeFile(temporary, bytes, { mode: 0o400 });
      await rename(temporary, kept);
    } finally {
      await rm(temporary, { force: true });
    }
    await this.#prune();
  }

  /** The oldest go, and what was left half written. */
  async #prune(): Promise<void> {
    const names = await readdir(this.#dir);
    const aged = await Promise.all(
      names.map(async (name) => ({ name, at: (await ifThere(stat(join(this.#dir, name))))?.mtimeMs ?? 0 })),
    );
    aged.sort((a, b) => b.at - a.at);
    for (const { name } of aged.slice(maxKept)) await rm(join(this.#dir, name), { force: true });
  }
}

async function read(path: string): Promise<Buffer | undefined> {
  await using file = await open(path, safely).catch((error: unknown) => {
    if (hasCode(error, 'ELOOP', 'ENXIO')) return undefined;
    throw error;
  });
  const found = await file?.stat();
  if (!file || !found?.isFile() || found.uid !== process.getuid?.() || found.size > maxBytes)
    return undefined;
  const bytes = Buffer.alloc(found.size);
  const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
  return bytes.subarray(0, bytesRead);
}
