/** Faults on disks of device-mapper, and under Firecracker: `in-lab/faults.test.ts` in the lab. */
import { expect, test } from 'vitest';
import { inLab, labFileSystems, labMs, testsInLab } from './setup/lab-facts.ts';

/** `PERCH_LAB_KILLS` and `PERCH_LAB_CUTS` say how often; each takes the lab about a minute. */
const { PERCH_LAB_KILLS = '10', PERCH_LAB_CUTS = '1' } = process.env;
const counts = [`PERCH_CHAOS_KILLS=${PERCH_LAB_KILLS}`, `PERCH_POWER_CUTS=${PERCH_LAB_CUTS}`];
const timeout = labMs + (Number(PERCH_LAB_KILLS) + Number(PERCH_LAB_CUTS)) * 120_000;

test.each([
  ...labFileSystems.map((type) => ['qemu-kvm', type] as const),
  ...labFileSystems.filter((type) => type === 'xfs').map((type) => ['firecracker', type] as const),
])('under %s the host agent, any process and the power may end on %s', { timeout }, async (vmm, type) => {
  const settings = [...counts, `PERCH_VMM=${vmm}`];
  const output = await inLab(testsInLab(...settings, '--project', 'in-lab'), '--data', type);
  // A run that finds no test has not failed either.
  expect(output).toMatch(/^ *Tests +[1-9]\d* passed/m);
});
