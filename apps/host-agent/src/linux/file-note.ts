/** Notes on a file, which all of its names have and every later process finds: extended attributes (xattr(7)). */
import { hasCode } from '@perch/node-kit';
import koffi from 'koffi';
import { SystemCallError } from './ffi.ts';

const libc = koffi.load('libc.so.6');
const fgetxattr = libc.func('long fgetxattr(int fd, const char *name, void *value, size_t size)');
const fsetxattr = libc.func(
  'int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)',
);

/** Those of `trusted` are root's alone: the user of a monitor sees none and makes none. */
const attribute = (name: string) => `trusted.perch.${name}`;
const maxBytes = 1024;
/** Errors of file systems that have none, and of users who may not. */
const cannot = ['EOPNOTSUPP', 'ENOTSUP', 'EPERM', 'EROFS'];

/** @returns undefined when there is none @throws SystemCallError */
export function readFileNote(fd: number, name: string): string | undefined {
  const bytes = Buffer.alloc(maxBytes);
  const length = fgetxattr(fd, attribute(name), bytes, bytes.length);
  if (length >= 0) return bytes.toString('utf8', 0, length);
  return unless(['ENODATA', ...cannot], 'fgetxattr');
}

/**
 * Privileged: only root may write such a note. It says something of a file that its caller could write anyway.
 *
 * Does nothing where there can be none. @throws SystemCallError
 */
export function writeFileNote(fd: number, name: string, text: string): void {
  const bytes = Buffer.from(text);
  if (fsetxattr(fd, attribute(name), bytes, bytes.length, 0) < 0) unless(cannot, 'fsetxattr');
}

function unless(expected: readonly string[], call: string): undefined {
  const error = new SystemCallError(call, koffi.errno());
  if (!hasCode(error, ...expected)) throw error;
}
