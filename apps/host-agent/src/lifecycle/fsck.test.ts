import { rmSync } from 'node:fs';
import { mkdir, mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { fsck } from './fsck.ts';
import type { Journal } from './journal.ts';

test('what is destroyed while it looks is nothing that the journal has lost', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-fsck-'));
  const [vmsDir, sandboxesDir, snapshotsDir, warmDir] = ['vms', 'sandboxes', 'snapshots', 'warm'].map(
    (name) => join(dir.path, name),
  ) as [string, string, string, string];
  for (const path of [vmsDir, sandboxesDir, snapshotsDir, warmDir]) await mkdir(path);
  for (const path of [join(vmsDir, 'going'), join(sandboxesDir, 'going'), join(vmsDir, 'lost')])
    await mkdir(path);
  const list = () => {
    for (const path of [vmsDir, sandboxesDir]) rmSync(join(path, 'going'), { recursive: true, force: true });
    return [];
  };
  const journal = { list } as unknown as Journal;
  const findings = await fsck({ journal, vmsDir, sandboxesDir, snapshotsDir, warmDir }, false);
  expect(findings.map(({ what }) => what)).toEqual([join(vmsDir, 'lost')]);
});
