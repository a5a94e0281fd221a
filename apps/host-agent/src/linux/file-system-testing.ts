/** File systems that tests make for themselves. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findTool } from '@perch/node-kit';

export type FileSystemType = 'ext4' | 'xfs';

/** Whether this machine has the tool that makes it. */
export const canMake = (type: FileSystemType) => findTool(`mkfs.${type}`) !== undefined;

/** A file system of 320 MiB, the least that XFS has, mounted while the test runs. */
export class SmallFileSystem implements Disposable {
  readonly #dir = mkdtempSync(join(tmpdir(), 'perch-small-'));
  readonly path = join(this.#dir, 'mounted');

  constructor(type: FileSystemType) {
    const image = join(this.#dir, 'image');
    writeFileSync(image, '');
    truncateSync(image, 320 * 2 ** 20);
    execFileSync(`mkfs.${type}`, ['-q', image]);
    mkdirSync(this.path);
    execFileSync('mount', ['-o', 'loop', image, this.path]);
  }

  [Symbol.dispose](): void {
    execFileSync('umount', [this.path]);
    rmSync(this.#dir, { recursive: true });
  }
}
