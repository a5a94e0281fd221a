/** Room of a file: taken ahead, given back, made its own (fallocate(2)). */
import { promisify } from 'node:util';
import koffi from 'koffi';
import { SystemCallError } from './ffi.ts';

const libc = koffi.load('libc.so.6');
const fallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t len)');
const fallocateInThread = promisify(fallocate.async) as (...args: number[]) => Promise<number>;

/** linux/falloc.h */
const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_UNSHARE_RANGE = 0x40;

/**
 * Takes room for all of a file that has none yet: what is not written reads as zeros, and writing it needs no more.
 * Parts that another file shares stay shared.
 * @throws SystemCallError ENOSPC, and some of the room may be taken; EOPNOTSUPP where the file system cannot
 */
export async function takeRoom(fd: number, bytes: number): Promise<void> {
  const done = await fallocateInThread(fd, 0, 0, bytes);
  // The reason is in the thread that made the call: asked for again in this one, which is as quick as it fails.
  if (done < 0) call(fd, 0, 0, bytes);
}

/** Gives room back; the part reads as zeros. @throws SystemCallError */
export function punchHole(fd: number, offset: number, length: number): void {
  call(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

/** Gives a part that another file shares blocks of its own. @throws SystemCallError ENOSPC */
export function unshare(fd: number, offset: number, length: number): void {
  call(fd, FALLOC_FL_UNSHARE_RANGE, offset, length);
}

function call(fd: number, mode: number, offset: number, length: number): void {
  if (fallocate(fd, mode, offset, length) < 0) throw new SystemCallError('fallocate', koffi.errno());
}
