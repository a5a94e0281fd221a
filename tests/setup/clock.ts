/** The clock of a guest, held against that of its host. */
import { expect } from 'vitest';
import type { Perch } from '../../packages/sdk/src/index.ts';
import { sh } from './sandbox.ts';

/** How far a guest's clock may be off, seconds, beside what it took to tell the guest the time. */
const offSec = 1;

/** Seconds since the epoch. */
export const hostClock = (): number => Date.now() / 1000;

export async function guestClock(perch: Perch, id: string): Promise<number> {
  return Number(await sh(perch, id, 'date +%s.%N'));
}

/** @returns the product of a call that tells guests the time, and the seconds that it took: none is later by more */
export async function timed<T>(call: () => Promise<T>): Promise<[T, number]> {
  const before = hostClock();
  return [await call(), hostClock() - before];
}

/** @param toldWithin seconds that the call took which told the guest the time */
export async function expectRightClock(perch: Perch, id: string, toldWithin: number): Promise<void> {
  const before = hostClock();
  const clock = await guestClock(perch, id);
  expect(clock).toBeGreaterThan(before - offSec - toldWithin);
  expect(clock).toBeLessThan(hostClock() + offSec);
}
