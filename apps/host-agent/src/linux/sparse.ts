/** Where a sparse file has data (lseek(2), SEEK_DATA and SEEK_HOLE). */
import koffi from 'koffi';
import { SystemCallError } from './ffi.ts';

const libc = koffi.load('libc.so.6');
const lseek = libc.func('long lseek(int fd, long offset, int whence)');

/** unistd.h */
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
/** Much more than the kernel reads ahead. */
const windowBytes = 64 * 2 ** 20;

/**
 * The parts of an open file that are not holes, from the lowest up, within `from` to `end`, bytes. Everything
 * else reads as zeros; what is given may do so too. A file system that keeps no holes gives the whole file.
 *
 * Those of a window are found before the first of them is given. Pages that the kernel reads ahead, into room that was
 * taken and not written, count as data from then on: who looks for the next run after each read, reads all of that room.
 * And who looks for all at once may have as many as a guest has made.
 *
 * Moves the position of the descriptor: its reads and writes must name theirs.
 * @throws SystemCallError
 */
export function* dataRuns(fd: number, from: number, end: number): Generator<Run> {
  for (let at = from; at < end; ) {
    // Large holes are passed at once.
    const first = seek(fd, at, SEEK_DATA);
    if (first === undefined) return;
    at = first + windowBytes;
    for (const run of runsWithin(fd, first, Math.min(at, end), end)) {
      yield run;
      at = Math.max(at, run.offset + run.length);
    }
  }
}

interface Run {
  offset: number;
  length: number;
}

/** The runs that begin before `until`: the last may be longer. */
function runsWithin(fd: number, from: number, until: number, end: number): Run[] {
  const runs: Run[] = [];
  for (let at = from; at < until; ) {
    const offset = seek(fd, at, SEEK_DATA);
    if (offset === undefined || offset >= until) break;
    // There is a hole behind the last byte of every file, unless the file was cut off in between.
    at = Math.min(seek(fd, offset, SEEK_HOLE) ?? end, end);
    runs.push({ offset, length: at - offset });
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
