/** Which blocks of a file another file has too (ioctl_fiemap(2)). */
import { setImmediate as turn } from 'node:timers/promises';
import { hasCode } from '@perch/node-kit';
import { ioctl } from './ffi.ts';

/** linux/fs.h: _IOWR('f', 11, struct fiemap) */
const FS_IOC_FIEMAP = 0xc020660b;
/** linux/fiemap.h */
const FIEMAP_EXTENT_LAST = 0x1;
const FIEMAP_EXTENT_UNKNOWN = 0x2;
const FIEMAP_EXTENT_SHARED = 0x2000;
const headBytes = 32;
const extentBytes = 56;
/** Asked for at once: the call holds up this thread. */
const extentsAtOnce = 500;
const endOfAll = 2n ** 63n - 1n;

/** A part of a file system's device, bytes. */
export interface Blocks {
  at: number;
  length: number;
}

/**
 * The blocks of an open file that are shared, in the order of the file. None where the file system cannot tell.
 * Its other names do not count as another file.
 * @throws SystemCallError
 */
export async function sharedBlocks(fd: number): Promise<Blocks[]> {
  const found: Blocks[] = [];
  const map = Buffer.alloc(headBytes + extentsAtOnce * extentBytes);
  for (let start = 0n; ; await turn()) {
    map.fill(0, 0, headBytes);
    map.writeBigUInt64LE(start, 0);
    map.writeBigUInt64LE(endOfAll - start, 8);
    map.writeUInt32LE(extentsAtOnce, 24);
    try {
      ioctl('FIEMAP', fd, FS_IOC_FIEMAP, map);
    } catch (error) {
      if (hasCode(error, 'EOPNOTSUPP', 'ENOTSUP', 'ENOTTY')) return [];
      throw error;
    }
    const count = map.readUInt32LE(20);
    if (count === 0) return found;
    for (let i = 0; i < count; i++) {
      const at = headBytes + i * extentBytes;
      const flags = map.readUInt32LE(at + 40);
      const length = map.readBigUInt64LE(at + 16);
      start = map.readBigUInt64LE(at) + length;
      if (flags & FIEMAP_EXTENT_SHARED && !(flags & FIEMAP_EXTENT_UNKNOWN)) {
        append(found, { at: Number(map.readBigUInt64LE(at + 8)), length: Number(length) });
      }
      if (flags & FIEMAP_EXTENT_LAST) return found;
    }
  }
}

function append(found: Blocks[], next: Blocks): void {
  const last = found.at(-1);
  if (last && last.at + last.length === next.at) last.length += next.length;
  else found.push(next);
}
