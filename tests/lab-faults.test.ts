/** Faults on disks of device-mapper: `in-lab/faults.test.ts` in the lab. */
import { expect, test } from 'vitest';
import { inLab, labFileSystems, labMs } from './setup/lab-facts.ts';

/** What the lab takes of the time that is enough on a machine. */
const slowness = '20';

test.each(labFileSystems)(
  'the host agent, any process and the power may end on %s',
  async (type) => {
    // The probe gives KVM less time than a guest takes there.
    const env = ['PERCH_ROOTFS=device-mapper', 'PERCH_VMM=qemu-kvm', `PERCH_TEST_SLOWNESS=${slowness}`];
    const command = ['env', 'NO_COLOR=1', ...env, 'vitest', 'run', '--project', 'in-lab'];
    const output = await inLab(command, '--data', type);
    // A run that finds no test has not failed either.
    expect(output).toMatch(/^ *Tests +[1-9]\d* passed/m);
  },
  labMs,
);
