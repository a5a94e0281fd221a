/** Two names change places in one step (renameat2(2)). */
import koffi from 'koffi';
import { SystemCallError } from './ffi.ts';

const libc = koffi.load('libc.so.6');
const renameat2 = libc.func(
  'int renameat2(int olddirfd, const char *oldpath, int newdirfd, const char *newpath, unsigned int flags)',
);

/** fcntl.h; for absolute paths it means nothing. */
const AT_FDCWD = -100;
/** stdio.h */
const RENAME_EXCHANGE = 2;

/**
 * The things at the two paths, directories too, change places; nobody sees one without the other. Both are
 * absolute, and on one file system.
 * @throws SystemCallError ENOENT, and nothing has moved; EINVAL where the file system cannot do it
 */
export function exchange(one: string, other: string): void {
  const result = renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
  if (result < 0) throw new SystemCallError('renameat2', koffi.errno());
}
