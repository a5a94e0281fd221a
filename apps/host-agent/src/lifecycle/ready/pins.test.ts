import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Journal } from '../journal/index.ts';
import { Pins } from './pins.ts';

const usual = { template: 'base', vcpus: 1, memory_mb: 512, disk_mb: 5120 };
const large = { ...usual, memory_mb: 4096 };

test('pins are there for whoever opens the journal next, one for each template and shape', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-pins-'));
  const file = join(dir.path, 'journal.db');
  const journal = new Journal(file);
  const pins = new Pins(journal);
  expect(pins.all()).toEqual([]);
  pins.keep(pins.with(usual, 4));
  pins.keep(pins.with(large, 1));
  pins.keep(pins.with(usual, 6));
  journal.close();
  const again = new Journal(file);
  const kept = new Pins(again);
  expect([usual, large].map((request) => kept.countOf(request))).toEqual([6, 1]);
  kept.keep(kept.with(usual, null));
  expect(kept.all()).toEqual([{ request: large, count: 1 }]);
  again.close();
});
