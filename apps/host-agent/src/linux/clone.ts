/** Two files that share their blocks until one of them is written (ioctl_ficlone(2)). */
import { ioctl, SystemCallError } from './ffi.ts';

/** linux/fs.h: _IOW(0x94, 9, int) */
const FICLONE = 0x40049409;
/** Errors of file systems that cannot clone: by name, since some say it in their own way. */
const cannot = ['EOPNOTSUPP', 'ENOTSUP', 'ENOTTY', 'ENOSYS', 'EXDEV', 'EINVAL', 'EPERM'];

/**
 * Makes the file of descriptor `to`, which is empty, the one of `from`.
 * @returns false, and nothing is changed, where the file systems cannot
 * @throws SystemCallError
 */
export function cloneFile(from: number, to: number): boolean {
  try {
    ioctl('FICLONE', to, FICLONE, from);
    return true;
  } catch (error) {
    if (error instanceof SystemCallError && cannot.includes(error.code)) return false;
    throw error;
  }
}
