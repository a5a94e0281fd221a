import { mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { measureTscKhz, processesOfUid } from '../../linux/index.ts';
import { testGuest } from '../qemu/test-guest.ts';
import { canRunGuests, findKernel, TestMachine } from '../qemu/test-machine.ts';
import { runTrial } from '../qemu/trial.ts';
import { readAnswer, writeAnswer } from './cache.ts';
import { probeMonitor } from './probe.ts';

describe('the kept answer', () => {
  const dir = mkdtempSync(join(tmpdir(), 'perch-probe-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'probe.json');
  const answer = { runs: true, why: 'tried' };

  test('counts for what it was found under, and no more', async () => {
    expect(await readAnswer(file, { qemu: '1' })).toBeUndefined();
    await writeAnswer(file, { qemu: '1' }, answer);
    expect(await readAnswer(file, { qemu: '1' })).toEqual(answer);
    expect(await readAnswer(file, { qemu: '2' })).toBeUndefined();
  });

  const answers = fc.record({ key: fc.constant({ qemu: '1' }), answer: fc.jsonValue() });
  property.prop([
    fc.oneof(
      fc.string(),
      fc.json(),
      answers.map((value) => JSON.stringify(value)),
    ),
  ])('is none when the file says anything else', async (text) => {
    writeFileSync(file, text);
    expect(await readAnswer(file, { qemu: '1' })).toBeUndefined();
  });

  for (const text of [
    '',
    '{',
    'null',
    '[]',
    '{"key":{"qemu":"1"}}',
    '{"key":{"qemu":"1"},"answer":{"runs":"x"}}',
  ]) {
    test(`is none when the file says ${JSON.stringify(text)}`, async () => {
      writeFileSync(file, text);
      expect(await readAnswer(file, { qemu: '1' })).toBeUndefined();
    });
  }
});

describe.runIf(canRunGuests)('a trial on this machine', () => {
  async function setUp() {
    const machine = new TestMachine();
    const initramfs = join(machine.root, 'i.cpio');
    writeFileSync(initramfs, testGuest('wait for ever'), { mode: 0o444 });
    const kernel = await machine.shared('vmlinux', findKernel() ?? '');
    return Object.assign(machine, { guest: { kernel, initramfs, log: machine.log } });
  }

  test('ends with an accelerator and a sentence, and is not repeated', async () => {
    await using machine = await setUp();
    const cacheFiles = {
      qemu: join(machine.root, 'qemu.json'),
      firecracker: join(machine.root, 'firecracker.json'),
    };
    const options = { ...machine.guest, cacheFiles, only: { kind: 'qemu', why: 'it is told' } as const };
    const found = await probeMonitor(options);
    expect(found).toMatchObject({ choice: expect.stringMatching(/^qemu-(kvm|tcg)$/), problems: [] });
    expect(found.why).not.toBe('');
    if (found.why.includes('guest')) {
      expect(JSON.parse(readFileSync(cacheFiles.qemu, 'utf8')).answer.why).toBe(found.why);
      expect(await probeMonitor({ ...options, kernel: options.kernel })).toEqual(found);
    }
    expect(await probeMonitor({ ...options, force: 'qemu-kvm' })).toMatchObject({ choice: 'qemu-kvm' });
  });

  test('recognises a guest that reaches its userspace', async () => {
    await using machine = await setUp();
    const trial = { ...machine.guest, near: join(machine.root, 'x') };
    expect(
      await runTrial(trial, { accelerator: 'tcg', tscKhz: await measureTscKhz(), timeoutMs: 55_000 }),
    ).toBeUndefined();
  }, 60_000);

  test('does not outlive the next one when the host agent ended in the middle', async () => {
    await using machine = await setUp();
    const trial = { ...machine.guest, near: join(machine.root, 'left') };
    const how = { accelerator: 'tcg', timeoutMs: 55_000 } as const;
    const left = runTrial(trial, how).catch((error: unknown) => error);
    const monitors = () => processesOfUid(65_534).filter(({ pid }) => cwdOf(pid).startsWith(trial.near));
    await expect.poll(() => monitors().length, { timeout: 30_000 }).toBe(1);
    await runTrial(trial, { ...how, timeoutMs: 1 }).catch(() => {});
    expect(await left).toBeInstanceOf(Error);
    expect(monitors()).toEqual([]);
  }, 60_000);
});

/** Of a process that may be gone. */
function cwdOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return '';
  }
}
