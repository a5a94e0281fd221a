/** `PERCH_FAILPOINT_ROUNDS` says how often each place is tried: what is met there depends on the clock, too. */
const rounds = Number(process.env.PERCH_FAILPOINT_ROUNDS || 1);

export function inRounds<T>(all: readonly T[]): T[] {
  return Array.from({ length: rounds }, () => all).flat();
}
