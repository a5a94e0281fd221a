/** What a pager counts, in a file that it has mapped. Source: crates/pager/src/metrics.rs. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';

export const metricsBytes = 512;

/** Words of the file. */
const places = {
  faults: 3,
  copied_bytes: 4,
  zero_pages: 5,
  retries: 6,
  removed_pages: 7,
  prefetch_hits: 9,
  prefetch_late: 10,
  prefetched_bytes: 11,
  repeated_faults: 13,
} as const;
/** Words that count faults by their time: the n-th those of less than 2^n microseconds. */
const latency = { first: 32, count: 24 } as const;
/** The first whose faults took a millisecond or more. */
const slow = 11;

/** As long as it lives, each only grows. */
export type PagerCounts = Record<keyof typeof places | 'slow_faults', number>;

/** @param bytes of the file, all of it */
export function pagerCounts(bytes: Buffer): PagerCounts {
  const word = (place: number) => Number(bytes.readBigUInt64LE(8 * place));
  const named = Object.entries(places).map(([name, place]) => [name, word(place)]);
  let slowFaults = 0;
  for (let at = slow; at < latency.count; at++) slowFaults += word(latency.first + at);
  return Object.fromEntries([...named, ['slow_faults', slowFaults]]) as PagerCounts;
}

/** @returns undefined where there is no such file, or it is not the one that we made */
export async function readPagerCounts(path: string): Promise<PagerCounts | undefined> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = await file.stat();
    if (!stat.isFile() || stat.uid !== process.getuid?.()) return undefined;
    const bytes = Buffer.alloc(metricsBytes);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    return bytesRead === bytes.length ? pagerCounts(bytes) : undefined;
  } catch {
    return undefined;
  }
}
