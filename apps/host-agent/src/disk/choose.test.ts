import { expect, test } from 'vitest';
import { exitCodeOf } from '../exit-code.ts';
import { chooseDisks } from './choose.ts';
import { createQcow2Disks } from './qcow2/index.ts';

const holds = async () => false;
const has = { format: 'qcow2' as const, holds, create: createQcow2Disks, lacks: () => undefined };
const lacks = { ...has, lacks: () => 'the kernel has none; load it.' };

const at = { instance: 'abcdef', dir: '/nowhere' };

test('the first kind of disk that serves a machine is taken, or the one that is asked for', async () => {
  const fails = async () => 'the kernel has one and makes none; see dmsetup.';
  const kinds = { none: lacks, broken: { ...has, fails }, second: has, third: has };
  expect(await chooseDisks('auto', at, kinds)).toMatchObject({
    kind: 'second',
    refused: { none: lacks.lacks(), broken: await fails() },
  });
  expect(await chooseDisks('third', at, kinds)).toMatchObject({ kind: 'third', refused: {} });
  // Whoever asks for it knows why.
  expect(await chooseDisks('broken', at, kinds)).toMatchObject({ kind: 'broken', refused: {} });
});

test('a kind that is not there is refused with those that are, and starting again does not help', async () => {
  const refused = async (wanted: string, kinds?: Parameters<typeof chooseDisks>[2]) => {
    const error = await chooseDisks(wanted, at, kinds).catch((cause: unknown) => cause);
    expect(exitCodeOf(error)).toBe(78);
    return (error as Error).message;
  };
  expect(await refused('zfs', { qcow2: has })).toBe(
    'PERCH_ROOTFS is zfs; on this machine it may be auto or qcow2.',
  );
  expect(await refused('dm', { qcow2: has, dm: lacks })).toBe(
    'PERCH_ROOTFS is dm; on this machine it may be auto or qcow2. dm: the kernel has none; load it.',
  );
  expect(await refused('auto', { dm: lacks })).toBe(
    'PERCH_ROOTFS is auto; on this machine no kind of disk works. dm: the kernel has none; load it.',
  );
  expect(await refused('constructor')).toContain('PERCH_ROOTFS is constructor;');
});

test('a kind that is not taken is not looked at', async () => {
  const never = { ...has, lacks: () => expect.fail('it was looked at') };
  await chooseDisks('auto', at, { qcow2: has, never });
  await chooseDisks('qcow2', at, { never, qcow2: has });
});
