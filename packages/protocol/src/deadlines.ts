/** How long a disk may take to be made anew, by its size: merged, converted or flattened. */
import { limits } from './limits.ts';

/** As a disk does that moves 10 MB/s. */
const perMiBMs = 100;

/** The tool that reads what guests have written, milliseconds: the host agent ends it then. */
export function remakeToolMs(diskMb: number): number {
  return 60_000 + perMiBMs * diskMb;
}

/** All of it, milliseconds: layers are checked before the tool reads them, and its result is summed up. */
export function remakeDiskMs(diskMb: number): number {
  return remakeToolMs(diskMb) + perMiBMs * diskMb;
}

/** The same for a disk whose size is not known. */
export const remakeAnyDiskMs = remakeDiskMs(limits.diskMb.max);
