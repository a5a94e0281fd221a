import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readConfig } from './config.ts';

const dataDir = mkdtempSync(join(tmpdir(), 'perch-test-'));
writeFileSync(join(dataDir, 'instance'), 'abc123\n');
afterAll(() => rmSync(dataDir, { recursive: true }));

const given = {
  PERCH_DATA_DIR: dataDir,
  PERCH_KERNEL: '/k',
  PERCH_INITRAMFS: '/i',
  PERCH_BASE_IMAGE: '/b',
  PERCH_BASE_IMAGE_ID: 'a'.repeat(64),
};

test('every setting of a user has a default', async () => {
  expect(await readConfig(given)).toMatchObject({
    ...{ instance: 'abc123', network: '10.11.0.0/16', logLevel: 'info', user: 'perch' },
    ...{
      slotPool: 4,
      slotRestMs: 30_000,
      keepDiskMb: 1024,
      restore: 'auto',
      prefetchMb: 64,
      history: 3,
      bootSnapshots: 8,
    },
    ready: { guests: 2, most: 32, pressure: 80 },
    limits: { diskBytes: undefined, diskRequests: undefined, networkBytes: undefined },
  });
});

test.each([
  [{ PERCH_READY: '0' }, { guests: 0, most: 0 }],
  [
    { PERCH_READY: '0', PERCH_READY_MAX: '8' },
    { guests: 0, most: 8 },
  ],
  [
    { PERCH_READY: '4', PERCH_READY_MAX: '1' },
    { guests: 4, most: 4 },
  ],
])('of ready guests %j means %j', async (set, means) => {
  expect((await readConfig({ ...given, ...set })).ready).toMatchObject(means);
});

test('limits of guests are MiB and requests of a second; 0 is none', async () => {
  const set = { PERCH_DISK_MB_PER_SEC: '20', PERCH_DISK_REQUESTS_PER_SEC: '500', PERCH_NET_MB_PER_SEC: '0' };
  expect((await readConfig({ ...given, ...set })).limits).toEqual({
    ...{ diskBytes: 20 * 2 ** 20, diskRequests: 500, networkBytes: undefined },
  });
});

test.each([
  ['PERCH_LOG_LEVEL', 'loud', /may be fatal, error/],
  ['PERCH_VMM', 'xen', /may be qemu-kvm or qemu-tcg/],
  ['PERCH_RESTORE', 'copy', /may be auto, file, reflink, pager/],
  ['PERCH_SLOT_POOL', '-1', /whole number/],
  ['PERCH_MEMORY_MB', '2g', /whole number/],
])('a wrong %s is named, with what it may be', async (name, value, message) => {
  const refusal = readConfig({ ...given, [name]: value });
  await expect(refusal).rejects.toThrow(`${name} is ${value}; it `);
  await expect(refusal).rejects.toThrow(message);
});
