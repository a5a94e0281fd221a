/** The promises of a monitor, held by Firecracker itself, and figures of the ways in which its guests get their memory back. */
import { expect, test } from 'vitest';
import { factsOf, inLab, labMs, testsInLab } from './setup/lab-facts.ts';

const vmm = 'apps/host-agent/src/vmm';
const files = [`${vmm}/contract.test.ts`, `${vmm}/firecracker/trial.root.test.ts`];

test.each([
  ['on XFS, whose blocks are shared', 'xfs', 'auto', 'of firecracker'],
  ['with memory that is served', 'ext4', 'pager', 'the state of a VM of firecracker'],
])('each promise of a monitor is kept %s', { timeout: labMs }, async (_, data, restore, name) => {
  const settings = ['PERCH_VMM=firecracker', `PERCH_RESTORE=${restore}`];
  const output = await inLab(
    testsInLab(...settings, '--project', 'unit', ...files, '-t', name),
    ...['--data', data],
  );
  expect(output).toMatch(/^ *Tests +[1-9]\d* passed/m);
});

test('a guest goes on by each way of getting its memory', { timeout: labMs }, async () => {
  const facts = await factsOf(['resume-ways-in-lab.ts'], '--data', 'xfs');
  console.log(facts);
  const ways = Object.entries(facts).filter(([name]) => name !== 'states');
  expect(ways.map(([name]) => name)).toEqual([
    'one memfile, mapped',
    'over another, copied',
    'over another, composed',
    'over another, paged',
    'over another, paged ahead',
  ]);
  for (const [, figures] of ways) expect(figures).toHaveProperty('first word');
});
