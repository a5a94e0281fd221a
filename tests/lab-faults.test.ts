/** Faults on disks of device-mapper: `in-lab/faults.test.ts` in the lab. */
import { expect, test } from 'vitest';
import { inLab, labFileSystems, labMs, testsInLab } from './setup/lab-facts.ts';

/** `PERCH_LAB_KILLS` and `PERCH_LAB_CUTS` say how often; each takes the lab about a minute. */
const { PERCH_LAB_KILLS = '10', PERCH_LAB_CUTS = '1' } = process.env;
const counts = [`PERCH_CHAOS_KILLS=${PERCH_LAB_KILLS}`, `PERCH_POWER_CUTS=${PERCH_LAB_CUTS}`];
const timeout = labMs + (Number(PERCH_LAB_KILLS) + Number(PERCH_LAB_CUTS)) * 120_000;

test.each(labFileSystems)(
  'the host agent, any process and the power may end on %s',
  { timeout },
  async (type) => {
    const output = await inLab(['env', ...counts, ...testsInLab('--project', 'in-lab')], '--data', type);
    // A run that finds no test has not failed either.
    expect(output).toMatch(/^ *Tests +[1-9]\d* passed/m);
  },
);
