import { expect, test } from 'vitest';
import { createQcow2Disks } from '../../disk/qcow2/index.ts';
import { fc, property } from '../../snapshot/testing.ts';
import { Admission, isHeld, type OnDisk } from './admission.ts';

const MiB = 2 ** 20;
const GiB = 2 ** 30;

function admissionWith(freeBytes: number): Admission {
  return new Admission({
    ...{ memoryMb: 1e9, disks: createQcow2Disks() },
    monitor: { overheadMb: () => 0, diskMb: ({ memoryMb }) => memoryMb },
    room: { freeBytes: async () => freeBytes },
  });
}

const onDisk = fc.record({
  memory_mb: fc.integer({ min: 128, max: 65_536 }),
  disk_mb: fc.integer({ min: 64, max: 65_536 }),
  /** History, layers of earlier lives and all that may be counted as written by mistake, too. */
  takenBytes: fc.integer({ min: 0, max: 200 * GiB }),
});
const held = fc.array(onDisk, { maxLength: 20 });
const free = fc.integer({ min: -GiB, max: 1000 * GiB });
const promised = ({ memory_mb, disk_mb }: OnDisk) => (memory_mb + disk_mb) * MiB;

test('what earlier lives have left on the disk makes no room', async () => {
  const one = { memory_mb: 512, disk_mb: 1536, takenBytes: 8 * GiB };
  expect((await admissionWith(10 * GiB).disk([one])).free).toBe(10 * 1024);
  expect((await admissionWith(10 * GiB).disk([{ ...one, takenBytes: 0 }])).free).toBe(8 * 1024);
});

property.prop([held, free])(
  'is free what is left once all that may still come has come',
  async (all, bytes) => {
    const reserved = all.reduce((sum, one) => sum + Math.max(0, promised(one) - one.takenBytes), 0);
    const capacity = await admissionWith(bytes).disk(all);
    expect(capacity.free).toBe(Math.floor((bytes - reserved) / MiB));
    expect(capacity.free * MiB).toBeLessThanOrEqual(bytes);
    expect((capacity.total - capacity.free) * MiB).toBe(all.reduce((sum, one) => sum + promised(one), 0));
  },
);

property.prop([held, free, fc.nat(), fc.nat()])(
  'a guest that writes what it was promised takes nothing from anybody',
  async (all, bytes, which, much) => {
    const writer = all[which % Math.max(1, all.length)];
    fc.pre(writer !== undefined && promised(writer) > writer.takenBytes);
    const before = await admissionWith(bytes).disk(all);
    const more = much % (promised(writer) - writer.takenBytes);
    const after = all.map((one) => (one === writer ? { ...one, takenBytes: one.takenBytes + more } : one));
    expect(await admissionWith(bytes - more).disk(after)).toEqual(before);
  },
);

property.prop([held, free])('whoever is admitted together can write all of it', async (all, bytes) => {
  let admitted: (OnDisk & { status: 'running' })[] = [];
  for (const one of all) {
    const next = { ...one, takenBytes: 0, status: 'running' } as const;
    const fits = await admissionWith(bytes)
      .admit(one, admitted)
      .then(
        () => true,
        () => false,
      );
    if (fits) admitted = [...admitted, next];
  }
  expect(admitted.reduce((sum, one) => sum + promised(one), 0)).toBeLessThanOrEqual(Math.max(0, bytes));
});

test('a failed sandbox is held until its teardown is done', () => {
  expect(isHeld({ status: 'failed', slot: 3 })).toBe(true);
  expect(isHeld({ status: 'failed', slot: null })).toBe(false);
  expect(isHeld({ status: 'paused', slot: null })).toBe(true);
});
