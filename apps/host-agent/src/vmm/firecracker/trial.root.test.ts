import { readdirSync, writeFileSync } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { findTool } from '@perch/node-kit';
import { describe, expect, test } from 'vitest';
import { processesOfUid } from '../../linux/index.ts';
import { testGuest } from '../qemu/test-guest.ts';
import { canRunGuests, findKernel, TestMachine } from '../qemu/test-machine.ts';
import { patience } from '../test-vm.ts';
import { jailRoot } from './jail.ts';
import { launch } from './launch.ts';
import { standInPrograms } from './testing/stand-in.ts';
import { firecrackerRunsGuest } from './trial.ts';

const can = canRunGuests && findTool('python3') !== undefined;
/** `trial.ts` has it. */
const uid = 2 ** 30 - 1;

async function trialOn(machine: TestMachine) {
  const initramfs = join(machine.root, 'i.cpio');
  writeFileSync(initramfs, testGuest('wait for ever'), { mode: 0o444 });
  const kernel = await machine.shared('vmlinux', findKernel() ?? '');
  const programs = await standInPrograms(machine.root);
  return { programs, kernel, initramfs, near: join(machine.root, 'probe.json') };
}

describe.runIf(can)('a guest that is started to see whether Firecracker runs one', () => {
  test('runs, or says what it did instead, and leaves nothing', async () => {
    await using machine = new TestMachine();
    const trial = await trialOn(machine);
    const hangs = await machine.shared('empty', '/dev/null');
    const before = readdirSync(machine.root);
    expect(await firecrackerRunsGuest(trial)).toBeUndefined();
    expect(
      await firecrackerRunsGuest({ ...trial, programs: { ...trial.programs, jailer: '/bin/false' } }),
    ).toEqual({ ended: true, why: 'it ended at once' });
    expect(await firecrackerRunsGuest({ ...trial, kernel: hangs }, { silenceMs: 0, allMs: 60_000 })).toEqual({
      ended: false,
      why: 'a guest did not reach its userspace, and had said nothing for 0 s (0 bytes on its console)',
    });
    expect(readdirSync(machine.root)).toEqual(before);
    expect(processesOfUid(uid)).toEqual([]);
  });

  test('does not outlive the next one when the host agent ended in the middle', async () => {
    await using machine = new TestMachine();
    const trial = await trialOn(machine);
    const before = readdirSync(machine.root);
    const dir = `${trial.near}-trial-left`;
    await mkdir(jailRoot({ dir, id: 'trial' }), { recursive: true });
    await using log = await open('/dev/null', 'r+');
    const streams = { console: log.fd, log: log.fd, maxFileBytes: 2 ** 20 };
    await launch({ id: 'trial', dir, uid, vcpus: 1, programs: trial.programs, ...streams });
    await expect.poll(() => processesOfUid(uid).length, patience).toBe(1);
    expect(await firecrackerRunsGuest(trial)).toBeUndefined();
    expect(processesOfUid(uid)).toEqual([]);
    expect(readdirSync(machine.root)).toEqual(before);
  });
});

const { PERCH_LAB, PERCH_FIRECRACKER: firecracker, PERCH_JAILER: jailer } = process.env;

/** With the patience that a host has: virtualization is emulated there. */
test.runIf(PERCH_LAB && firecracker && jailer)(
  'a trial of firecracker itself runs a guest',
  { timeout: patience.timeout },
  async () => {
    await using machine = new TestMachine();
    const trial = await trialOn(machine);
    const programs = { firecracker: firecracker ?? '', jailer: jailer ?? '' };
    expect(await firecrackerRunsGuest({ ...trial, programs })).toBeUndefined();
  },
);
