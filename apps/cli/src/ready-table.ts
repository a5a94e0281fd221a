import { printable } from '@perch/node-kit';
import type { ReadyGuests } from '@perch/sdk';
import { table } from './output.ts';

/** Ready guests, for people. */
export function readyTable(all: readonly ReadyGuests[]): string {
  return table(
    ['TEMPLATE', 'VCPUS', 'MEMORY', 'DISK', 'READY', 'WANTED', 'PINNED', 'HITS', 'MISSES'],
    all.map(({ template, vcpus, memory_mb, disk_mb, ready, wanted, pinned, hits, misses }) => [
      printable(template),
      String(vcpus),
      `${memory_mb} MiB`,
      `${disk_mb} MiB`,
      ...[ready, wanted, pinned ?? '-', hits, misses].map(String),
    ]),
  );
}
