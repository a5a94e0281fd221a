/** Files that share blocks until one of them is written (ioctl_ficlone(2), ioctl_ficlonerange(2)). */
import { mkdir, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ioctl, SystemCallError } from './ffi.ts';

/** linux/fs.h: _IOW(0x94, 9, int) */
const FICLONE = 0x40049409;
/** linux/fs.h: _IOW(0x94, 13, struct file_clone_range) */
const FICLONERANGE = 0x4020940d;
/** Errors of file systems that cannot clone: by name, since some say it in their own way. */
const cannot = ['EOPNOTSUPP', 'ENOTSUP', 'ENOTTY', 'ENOSYS', 'EXDEV', 'EINVAL', 'EPERM'];

/**
 * Makes the file of descriptor `to`, which is empty, the one of `from`.
 * @returns false, and nothing is changed, where the file systems cannot
 * @throws SystemCallError
 */
export function cloneFile(from: number, to: number): boolean {
  return isDone(() => ioctl('FICLONE', to, FICLONE, from));
}

/** Bytes of one file, and their place in another. */
export interface ClonedRange {
  fromOffset: number;
  length: number;
  toOffset: number;
}

/**
 * Puts a part of `from` into `to`, in place of what is there. Whole blocks of the file system, and both descriptors
 * are of different files.
 * @returns as `cloneFile`, also for what lies at no block
 * @throws SystemCallError
 */
export function cloneRange(from: number, to: number, { fromOffset, length, toOffset }: ClonedRange): boolean {
  const range = Buffer.alloc(32);
  [from, fromOffset, length, toOffset].forEach((value, i) => {
    range.writeBigUInt64LE(BigInt(value), 8 * i);
  });
  return isDone(() => ioctl('FICLONERANGE', to, FICLONERANGE, range));
}

/** Whether files in a directory can share blocks with each other: tried in `clone-trial`, of which nothing is left. */
export async function hasClones(dir: string): Promise<boolean> {
  const trial = join(dir, 'clone-trial');
  await rm(trial, { recursive: true, force: true });
  try {
    await mkdir(trial);
    await writeFile(join(trial, 'from'), Buffer.alloc(4096, 1));
    await using from = await open(join(trial, 'from'));
    await using to = await open(join(trial, 'to'), 'wx+');
    return cloneRange(from.fd, to.fd, { fromOffset: 0, length: 4096, toOffset: 0 });
  } finally {
    await rm(trial, { recursive: true, force: true });
  }
}

function isDone(clone: () => void): boolean {
  try {
    clone();
    return true;
  } catch (error) {
    if (error instanceof SystemCallError && cannot.includes(error.code)) return false;
    throw error;
  }
}
