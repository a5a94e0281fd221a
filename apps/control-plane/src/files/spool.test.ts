import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isPerchError } from '@perch/protocol';
import { expect, test } from 'vitest';
import { Spool } from './index.ts';

async function* chunks(count: number, size: number) {
  for (let i = 0; i < count; i++) yield Buffer.alloc(size, i);
}

test('what was taken comes out the same, more than once, and has no name meanwhile', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'perch-test-'));
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => rm(dir, { recursive: true }));
  const spool = await Spool.open(dir);
  await using file = await spool.take(chunks(10, 100_000));
  expect(await readdir(dir)).toEqual([]);
  for (let i = 0; i < 2; i++) {
    const read: Buffer[] = [];
    for await (const chunk of file.stream()) read.push(chunk);
    const whole = Buffer.concat(Array.from({ length: 10 }, (_, byte) => Buffer.alloc(100_000, byte)));
    expect(whole.equals(Buffer.concat(read))).toBe(true);
  }
  expect(spool.used).toBe(1_000_000);
  await file[Symbol.asyncDispose]();
  expect(spool.used).toBe(0);
});

test('uploads together have a limit, and one that passes it gives all back', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'perch-test-'));
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => rm(dir, { recursive: true }));
  const spool = await Spool.open(dir, 1_000_000);
  await using _first = await spool.take(chunks(5, 100_000));
  const error = await spool.take(chunks(6, 100_000)).catch((thrown: unknown) => thrown);
  expect(isPerchError(error, 'body_too_large')).toBe(true);
  expect(spool.used).toBe(500_000);
});

test('a quota that is reached is told as a full disk, and nothing is kept', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'perch-test-'));
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => rm(dir, { recursive: true }));
  const spool = await Spool.open(dir);
  const overQuota = async function* () {
    yield Buffer.alloc(100_000);
    throw Object.assign(new Error('EDQUOT: disk quota exceeded, write'), { code: 'EDQUOT' });
  };
  const error = await spool.take(overQuota()).catch((thrown: unknown) => thrown);
  expect(isPerchError(error, 'host_disk_full')).toBe(true);
  expect(spool.used).toBe(0);
});
