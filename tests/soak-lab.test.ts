/** Suites that run on any machine, in the lab: on disks of device-mapper, under KVM. Each takes it long. */
import { expect, test } from 'vitest';
import { inLab, labFileSystems, labMs, testsInLab } from './setup/lab-facts.ts';

const endToEnd = ['life-of-a-sandbox', 'pause-resume', 'snapshots', 'fork', 'import', 'fsck', 'crash'];
const runs = labFileSystems.flatMap((type) => [
  ...endToEnd.map((name) => [type, 'e2e', `tests/${name}.test.ts`] as const),
  [type, 'failpoints', 'tests/failpoints.test.ts'] as const,
]);

test.each(runs)('on %s, the %s tests of %s pass', { timeout: 4 * labMs }, async (type, project, file) => {
  const output = await inLab(testsInLab('--project', project, file), '--data', type);
  // A run that finds no test has not failed either.
  expect(output).toMatch(/^ *Tests +[1-9]\d* passed/m);
});
