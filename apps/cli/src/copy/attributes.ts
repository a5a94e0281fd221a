/** Mode and time of a file, as they go with it. */

export interface Attributes {
  /** Permission bits. */
  mode: number | undefined;
  /** RFC 3339, up to nanoseconds. */
  modifiedAt: string | undefined;
}

export const permissionBits = 0o777;

/** What ext4, the disk of a sandbox, has of times, seconds since 1970. */
export const diskTimes = { first: -(2 ** 31), last: 2 ** 34 - 2 ** 31 - 1 } as const;

/** @param ns since 1970. @returns the nearest that the disk of a sandbox has */
export function onDisk(ns: bigint): bigint {
  const first = BigInt(diskTimes.first) * 1_000_000_000n;
  const last = BigInt(diskTimes.last) * 1_000_000_000n;
  if (ns < first) return first;
  return ns > last ? last : ns;
}

/** @param ns since 1970. @returns undefined where the year has not four digits */
export function timeOf(ns: bigint): string | undefined {
  const inSecond = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  const date = new Date(Number((ns - inSecond) / 1_000_000n));
  const text = Number.isNaN(date.getTime()) ? '' : date.toISOString();
  if (!/^\d{4}-/.test(text)) return undefined;
  return text.replace(/\.000Z$/, `.${inSecond.toString().padStart(9, '0')}Z`);
}

/** Seconds since 1970, with their fraction; undefined for what is no time. */
export function secondsOf(text: string | undefined): number | undefined {
  const parts = /^([^.]*?)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/.exec(text ?? '');
  const seconds = Date.parse(`${parts?.[1]}${parts?.[3]}`) / 1000 + Number(parts?.[2] ?? 0);
  return Number.isFinite(seconds) ? seconds : undefined;
}

/** Seconds since 1970 that each file system has. */
const everywhere = { first: 0, last: 2 ** 31 - 1 } as const;

/**
 * @param set sets the time that a file is to have, in seconds since 1970, and `has` tells the one that it has then, in ms
 * @returns whether they are the same: a file system has not each time, and takes the nearest without a word
 * @throws what `set` throws for any other reason
 */
export function couldSetTime(seconds: number, set: () => void, has: () => number): boolean {
  try {
    set();
    const isEverywhere = seconds >= everywhere.first && seconds <= everywhere.last;
    // Some have only every other second.
    return isEverywhere || Math.abs(has() / 1000 - seconds) < 2;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
    return false;
  }
}

/** Of seconds since 1970 what Node sets as a time of a file: it takes a negative number for now. */
export function settable(seconds: number): number | Date {
  return seconds < 0 ? new Date(seconds * 1000) : seconds;
}
