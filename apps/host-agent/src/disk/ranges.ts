/** Parts of a disk. */

/** A part of the disk, bytes. */
export interface DiskRange {
  offset: number;
  length: number;
}

/** A part of the disk whose bytes are in a file from `at` on. */
export interface StoredRun extends DiskRange {
  at: number;
}

/** Ascending ranges, of which those that touch become one. */
export function* merged(ranges: Iterable<DiskRange>): Generator<DiskRange> {
  let last: DiskRange | undefined;
  for (const { offset, length } of ranges) {
    if (last && last.offset + last.length === offset) {
      last.length += length;
      continue;
    }
    if (last) yield last;
    last = { offset, length };
  }
  if (last) yield last;
}
