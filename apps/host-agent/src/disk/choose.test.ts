import { expect, test } from 'vitest';
import { exitCodeOf } from '../exit-code.ts';
import { chooseDisks, diskKinds } from './choose.ts';
import { createQcow2Disks } from './qcow2/index.ts';

const holds = async () => false;
const has = { format: 'qcow2' as const, holds, create: createQcow2Disks, lacks: () => undefined };
const lacks = { ...has, lacks: () => 'the kernel has none; load it.' };

test('the first kind of disk that a machine can have is taken, or the one that is asked for', () => {
  expect(chooseDisks('auto', 'abcdef', { qcow2: has }).capabilities.format).toBe('qcow2');
  const other = { ...has, create: () => ({ ...createQcow2Disks(), adopt: () => Promise.reject() }) };
  expect(chooseDisks('auto', 'abcdef', { none: lacks, second: has, third: other }).adopt).toBe(
    has.create().adopt,
  );
  expect(chooseDisks('third', 'abcdef', { none: lacks, second: has, third: other }).adopt).not.toBe(
    has.create().adopt,
  );
});

test('a kind that is not there is refused with those that are, and starting again does not help', () => {
  const refused = (wanted: string, kinds = diskKinds) => {
    try {
      chooseDisks(wanted, 'abcdef', kinds);
    } catch (error) {
      expect(exitCodeOf(error)).toBe(78);
      return (error as Error).message;
    }
    throw new Error('it was not refused');
  };
  expect(refused('zfs', { qcow2: has })).toBe(
    'PERCH_ROOTFS is zfs; on this machine it may be auto or qcow2.',
  );
  expect(refused('dm', { qcow2: has, dm: lacks })).toBe(
    'PERCH_ROOTFS is dm; on this machine it may be auto or qcow2. dm: the kernel has none; load it.',
  );
  expect(refused('auto', { dm: lacks })).toBe(
    'PERCH_ROOTFS is auto; on this machine no kind of disk works. dm: the kernel has none; load it.',
  );
  expect(refused('constructor')).toContain('PERCH_ROOTFS is constructor;');
});

test('a kind that is not taken is not looked at', () => {
  const never = { ...has, lacks: () => expect.fail('it was looked at') };
  chooseDisks('auto', 'abcdef', { qcow2: has, never });
  chooseDisks('qcow2', 'abcdef', { never, qcow2: has });
});
