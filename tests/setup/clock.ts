/** The clock of a guest, held against that of its host. */
import { expect } from 'vitest';
import type { Perch } from '../../packages/sdk/src/index.ts';
import { sh } from './sandbox.ts';

/** How far a guest's clock may be off, seconds. */
const offSec = 1;

/** Seconds since the epoch. */
export const hostClock = (): number => Date.now() / 1000;

export async function guestClock(perch: Perch, id: string): Promise<number> {
  return Number(await sh(perch, id, 'date +%s.%N'));
}

export async function expectRightClock(perch: Perch, id: string): Promise<void> {
  const before = hostClock();
  const clock = await guestClock(perch, id);
  expect(clock).toBeGreaterThan(before - offSec);
  expect(clock).toBeLessThan(hostClock() + offSec);
}
