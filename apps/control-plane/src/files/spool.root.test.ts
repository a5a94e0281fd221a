import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Spool } from './spool.ts';

test.skipIf(process.getuid?.() !== 0)('a full disk is told as such, and nothing is kept', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'perch-spool-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'perch-spool', dir]);
  onTestFinished(async () => {
    execFileSync('umount', [dir]);
    await rm(dir, { recursive: true });
  });
  const spool = await Spool.open(join(dir, 'spool'));
  const chunks = async function* (count: number) {
    for (let i = 0; i < count; i++) yield Buffer.alloc(65_536, 1);
  };
  await expect(spool.take(chunks(8))).rejects.toMatchObject({ code: 'host_disk_full' });
  expect(spool.used).toBe(0);
  await using kept = await spool.take(chunks(2));
  let length = 0;
  for await (const chunk of kept.stream()) length += chunk.length;
  expect(length).toBe(131_072);
});
