/** Mode and time of a file, as they go with it. */

export interface Attributes {
  /** Permission bits. */
  mode: number | undefined;
  /** RFC 3339, up to nanoseconds. */
  modifiedAt: string | undefined;
}

export const permissionBits = 0o777;

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

/** @returns whether `set` could: a file system has not each time. @throws what it throws for any other reason */
export function couldSetTime(set: () => void): boolean {
  try {
    set();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
    return false;
  }
}

/** Of seconds since 1970 what Node sets as a time of a file: it takes a negative number for now. */
export function settable(seconds: number): number | Date {
  return seconds < 0 ? new Date(seconds * 1000) : seconds;
}
