import { expect, test } from 'vitest';
import { disks } from './disks.ts';

const lacking = 'there is no /dev/mapper/control; modprobe dm_mod.';
const some = { qcow2: undefined, 'device-mapper': lacking };

test('the kinds of disk that a machine can have are told, and what the others lack', () => {
  const all = { qcow2: undefined, 'device-mapper': undefined };
  expect(disks('auto', all)).toMatchObject({ status: 'ok', detail: 'qcow2 and device-mapper' });
  expect(disks('device-mapper', all)).toMatchObject({ status: 'ok' });
  const detail = `qcow2; no device-mapper: ${lacking}`;
  for (const wanted of ['auto', 'qcow2']) expect(disks(wanted, some)).toMatchObject({ status: 'ok', detail });
});

test('a kind of disk that is wanted and not there is a problem, and so is a machine without any', () => {
  expect(disks('device-mapper', some)).toEqual({
    ...{ name: 'kinds of disk', status: 'problem' },
    detail: `PERCH_ROOTFS is device-mapper; qcow2; no device-mapper: ${lacking}`,
    remedy: 'Mend that, or set it to one of auto, qcow2, device-mapper.',
  });
  expect(disks('constructor', some)).toMatchObject({ status: 'problem' });
  expect(disks('auto', { qcow2: 'there is no qemu-img.' })).toMatchObject({
    ...{ status: 'problem', detail: 'PERCH_ROOTFS is auto; none; no qcow2: there is no qemu-img.' },
  });
});
