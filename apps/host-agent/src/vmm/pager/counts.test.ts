import { mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { metricsBytes, readPagerCounts } from './counts.ts';

test('the counts of a pager are read from its file; of another there are none', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-pager-'));
  const path = join(dir.path, 'pager.metrics');
  expect(await readPagerCounts(path)).toBeUndefined();
  const bytes = Buffer.alloc(metricsBytes);
  for (let word = 0; word < 32; word++) bytes.writeBigUInt64LE(BigInt(100 + word), 8 * word);
  // Of less than 1024, of less than 2048 microseconds, and of all more.
  for (const [at, count] of [
    [10, 1],
    [11, 2],
    [23, 4],
  ] as const)
    bytes.writeBigUInt64LE(BigInt(count), 8 * (32 + at));
  await writeFile(path, bytes);
  expect(await readPagerCounts(path)).toMatchObject({
    ...{ faults: 103, copied_bytes: 104, zero_pages: 105, prefetch_hits: 109, repeated_faults: 113 },
    slow_faults: 6,
  });
  await writeFile(path, bytes.subarray(1));
  expect(await readPagerCounts(path)).toBeUndefined();
});
