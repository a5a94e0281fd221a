/** Room on the disk of the state, and what is said when there is none. */
import type { StatsFs } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { isDiskFull } from '@perch/node-kit';
import { PerchError } from '@perch/protocol';

export interface DiskRoomOptions {
  /** A path on the file system of the state. */
  dir: string;
  /** MiB that stay free for the rest of the machine. */
  keepMb: number;
  /** The kernel's answer: for tests. */
  statfs?: (path: string) => Promise<Pick<StatsFs, 'bavail' | 'bsize'>>;
}

export class DiskRoom {
  readonly #options: DiskRoomOptions;

  constructor(options: DiskRoomOptions) {
    this.#options = options;
  }

  /** Bytes that can be written until only the kept room is left; below 0 when that is touched already. */
  async freeBytes(): Promise<number> {
    return (await this.#availableBytes()) - this.#options.keepMb * mebibyte;
  }

  /** @param what for the message, such as `A copy of sandbox x` @throws PerchError capacity_exhausted */
  async require(bytes: number, what: string): Promise<void> {
    const { keepMb } = this.#options;
    const kept = keepMb > 0 ? ` beside the ${keepMb} MiB that stay free (PERCH_KEEP_DISK_MB)` : '';
    refuseUnless(bytes, await this.freeBytes(), what, kept);
  }

  /** The same for what was promised room before: it may use what stays free. @throws PerchError capacity_exhausted */
  async requirePromised(bytes: number, what: string): Promise<void> {
    refuseUnless(bytes, await this.#availableBytes(), what, '');
  }

  async #availableBytes(): Promise<number> {
    const { dir, statfs: look = statfs } = this.#options;
    const { bavail, bsize } = await look(dir);
    return bavail * bsize;
  }
}

/** An error without a code that a full disk has caused, as what it is; else the error itself. */
export function asDiskFull(error: unknown): unknown {
  if (error instanceof PerchError || !isDiskFull(error)) return error;
  const message = 'The disk of the host was full before all of it was written.';
  return new PerchError('host_disk_full', message, {}, { cause: error });
}

const mebibyte = 2 ** 20;

function refuseUnless(bytes: number, freeBytes: number, what: string, kept: string): void {
  if (bytes <= freeBytes) return;
  const [requested, available] = [Math.ceil(bytes / mebibyte), Math.max(0, Math.floor(freeBytes / mebibyte))];
  throw new PerchError(
    'capacity_exhausted',
    `${what} needs ${requested} MiB of disk, and the host has ${available} MiB left${kept}.`,
    { resource: 'disk', requested, available },
  );
}
