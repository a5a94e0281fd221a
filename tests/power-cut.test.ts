/**
 * The power may go at any moment. `PERCH_POWER_SEED` repeats the choices of a run (what they meet depends on the
 * clock, too), and `PERCH_POWER_CUTS` says how many cuts there are under load.
 */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { PerchInstance } from './setup/perch-instance.ts';
import { PowerDisk } from './setup/power.ts';
import { PowerCuts } from './setup/power-cuts.ts';
import { newSandbox } from './setup/sandbox.ts';

const cuts = Number(process.env.PERCH_POWER_CUTS || 5);
const seed = Number(process.env.PERCH_POWER_SEED || 1);
const cutsAtStart = Math.ceil(cuts / 2);
const again = `PERCH_POWER_SEED=${seed} PERCH_POWER_CUTS=${cuts}`;
const timeout = 120_000 + cuts * 30_000;

test(`${cutsAtStart} power cuts during a first start are no obstacle to the next (${again})`, {
  timeout,
}, async () => {
  await using disk = await PowerDisk.make();
  await using instance = await PerchInstance.prepare({ network: 98, dataDir: join(disk.path, 'perch') });
  const power = new PowerCuts(instance, disk, seed);
  await repeatably(power, async () => {
    for (let cut = 0; cut < cutsAtStart; cut++) await power.duringStart();
    await instance.up();
    await using sandbox = await newSandbox(instance.perch);
    expect((await instance.perch.sandboxes.exec(sandbox.id, { cmd: 'true' })).exit_code).toBe(0);
  });
});

test(`${cuts} power cuts under load break no promise (${again})`, { timeout }, async () => {
  await using disk = await PowerDisk.make();
  const env = { PERCH_SLOT_POOL: '1' };
  await using instance = await PerchInstance.start({ network: 98, dataDir: join(disk.path, 'perch'), env });
  const power = new PowerCuts(instance, disk, seed);
  await repeatably(power, async () => {
    for (let cut = 0; cut < cuts; cut++) await power.round();
    await power.finish();
    expect(power.proved).toBeGreaterThan(0);
    console.log(`${again}: ${power.proved} states were proved`);
  });
});

/** A failure says what was done, and how to do it again. */
async function repeatably(power: PowerCuts, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (cause) {
    throw new Error(`${again}: ${cause}\n${power.history.slice(-80).join('\n')}`, { cause });
  }
}
