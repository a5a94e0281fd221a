/** Where a sparse file has data (lseek(2), SEEK_DATA and SEEK_HOLE). */
import koffi from 'koffi';
import { SystemCallError } from './ffi.ts';

const libc = koffi.load('libc.so.6');
const lseek = libc.func('long lseek(int fd, long offset, int whence)');

/** unistd.h */
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/**
 * The parts of an open file that are not holes, from the lowest up, within `from` to `end`, bytes. Everything
 * else reads as zeros; what is given may do so too. A file system that keeps no holes gives the whole file.
 *
 * All are found before the first is read. Pages that the kernel reads ahead, into room that was taken and not written,
 * count as data from then on: who looks for the next run after each read, reads all of that room.
 *
 * Moves the position of the descriptor: its reads and writes must name theirs.
 * @throws SystemCallError
 */
export function dataRuns(fd: number, from: number, end: number): { offset: number; length: number }[] {
  const runs: { offset: number; length: number }[] = [];
  let at = from;
  while (at < end) {
    const offset = seek(fd, at, SEEK_DATA);
    if (offset === undefined || offset >= end) break;
    // There is a hole behind the last byte of every file, unless the file was cut off in between.
    const hole = Math.min(seek(fd, offset, SEEK_HOLE) ?? end, end);
    runs.push({ offset, length: hole - offset });
    at = hole;
  }
  return runs;
}

/** @returns undefined at or past the end of the file, and where no data follow */
function seek(fd: number, offset: number, whence: number): number | undefined {
  const found = Number(lseek(fd, offset, whence));
  if (found >= 0) return found;
  const errno = koffi.errno();
  if (errno === koffi.os.errno.ENXIO) return undefined;
  throw new SystemCallError('lseek', errno);
}
