/**
 * Any process may end at any moment. `PERCH_CHAOS_SEED` repeats the choices of a run (what they meet depends on
 * the clock, too), and `PERCH_CHAOS_KILLS` says how many kills there are.
 */
import { expect, test } from 'vitest';
import { Chaos } from './setup/chaos.ts';
import { PerchInstance } from './setup/perch-instance.ts';

const kills = Number(process.env.PERCH_CHAOS_KILLS || 100);
const seed = Number(process.env.PERCH_CHAOS_SEED || 1);
const again = `PERCH_CHAOS_SEED=${seed} PERCH_CHAOS_KILLS=${kills}`;

test(`${kills} kills under load break no promise (${again})`, {
  timeout: 120_000 + kills * 15_000,
}, async () => {
  // Each start of the host agent makes its slots anew, and each round waits for them.
  const env = { PERCH_GOOD_RUN_SEC: '0', PERCH_SLOT_POOL: '1' };
  await using instance = await PerchInstance.start({ network: 85, env });
  const chaos = new Chaos(instance, seed);
  try {
    while (chaos.kills < kills) await chaos.round();
    await chaos.finish();
  } catch (cause) {
    throw new Error(`${again}: ${cause}\n${chaos.history.slice(-80).join('\n')}`, { cause });
  }
  console.log(`${again}:`, Object.fromEntries(chaos.killed));
  // Each kind was there to be killed.
  expect(chaos.killed.size).toBeGreaterThanOrEqual(Math.min(5, kills / 10));
});
