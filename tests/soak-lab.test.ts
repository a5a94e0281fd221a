/** What takes the lab long: suites that run on any machine, on disks of device-mapper under KVM, and many pauses. */
import { expect, test } from 'vitest';
import type { CycleCounts } from './setup/cycles-in-lab.ts';
import { factsOf, inLab, labFileSystems, labMs, testsInLab } from './setup/lab-facts.ts';

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

test('a hundred pauses and resumes under Firecracker leave no more than four', {
  timeout: 4 * labMs,
}, async () => {
  const facts = await factsOf(['cycles-in-lab.ts'], '--data', 'xfs');
  console.log(facts);
  const { before, after } = facts as Record<'before' | 'after', CycleCounts>;
  expect(facts.cycles).toBe(100);
  expect(after.things).toEqual(before.things);
  expect(after.memfiles).toBeLessThanOrEqual(before.memfiles + 100);
  // One that each cycle leaves would be a hundred.
  expect(after.host.files).toBeLessThan(before.host.files + 30);
  expect(after.host.threads).toBeLessThan(before.host.threads + 30);
});
