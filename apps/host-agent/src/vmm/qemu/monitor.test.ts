/** Real guests on a real QEMU: needs root, QEMU and a kernel. Sends nothing outside a namespace of its own. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { readStat } from '@perch/node-kit';
import { describe, expect, test } from 'vitest';
import { leftovers, none, of, patience, spoilDisk, untilSays } from '../test-vm.ts';
import { consoleBytes } from './arguments.ts';
import type { Step } from './test-guest.ts';
import { canRunGuests, TestMachine } from './test-machine.ts';

const idle: Step[] = [{ say: 'guest is up\n' }, 'wait for ever'];
/** A command as another user, with nothing else. */
function as(uid: number, ...command: string[]) {
  const drop = ['--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups', '--'];
  return spawnSync('setpriv', [...drop, ...command], { encoding: 'utf8' });
}

describe.runIf(canRunGuests)('a QEMU', { timeout: 120_000 }, () => {
  test('inherits no descriptors but its own', async () => {
    await using machine = new TestMachine();
    const vm = await (await machine.monitor()).boot(await machine.spec('fds', idle));
    const fds = `/proc/${of(vm).pid}/fd`;
    const targets = readdirSync(fds).map((fd) => readlinkSync(join(fds, fd)));
    const known =
      /^(\/dev\/(null|net\/tun)|socket:|anon_inode:|pipe:)|\/fds\/(monitor\.log|memfile|rootfs(\.qcow2)?|base\.ext4)$/;
    expect(targets.filter((target) => !known.test(target))).toEqual([]);
    await vm.kill();
  });

  const ends: [string, Step[], RegExp][] = [
    ['powers off', [{ say: 'good night\n' }, 'power off'], /^The guest powered off$/],
    ['restarts', ['restart'], /^The guest restarted/],
    ['panics', ['exit'], /^The guest kernel panicked: Kernel panic - not syncing: Attempted to kill init/],
  ];
  for (const [name, steps, reason] of ends) {
    test(`tells of a guest that ${name}`, async () => {
      await using machine = new TestMachine();
      const spec = await machine.spec('ends', steps);
      const vm = await (await machine.monitor()).boot(spec);
      expect(await vm.exited).toMatch(reason);
      expect(await leftovers(machine, spec)).toEqual(none);
    });
  }

  test('that cannot open its disk says so', async () => {
    await using machine = new TestMachine();
    const spec = await machine.spec('broken', idle);
    await spoilDisk(spec);
    const started = (await machine.monitor()).boot(spec);
    const why = { file: 'not in qcow2 format', block: 'to be either a character or block device' };
    const reason = new RegExp(`did not start: .*code 1: .*${why[spec.disk.kind]}`);
    await expect(started).rejects.toThrow(reason);
  });

  test('keeps the last of a console that never stops', async () => {
    await using machine = new TestMachine();
    const steps: Step[] = [{ repeat: `${'x'.repeat(999)}\n` }];
    const vm = await (await machine.monitor()).boot(await machine.spec('noise', steps));
    await expect.poll(async () => (await vm.console()).length, patience).toBe(consoleBytes);
    expect((await vm.console()).length).toBe(consoleBytes);
    await vm.kill();
  });

  test('whose guest panicked while nobody listened still tells so', async () => {
    await using machine = new TestMachine();
    const spec = await machine.spec('missed', [{ say: 'guest is up\n' }, 'exit']);
    const first = await (await machine.monitor()).boot(spec);
    first.release();
    // The stopped machine uses no more time.
    const spent = () => readStat(of(first).pid)?.cpuTicks ?? Number.NaN;
    await expect
      .poll(async () => {
        const before = spent();
        await new Promise((resolve) => setTimeout(resolve, 1500));
        return spent() - before;
      }, patience)
      .toBe(0);
    const vm = await (await machine.monitor()).adopt(spec, first.processes);
    expect(await vm?.exited).toMatch(/^The guest kernel panicked/);
    expect(await leftovers(machine, spec)).toEqual(none);
  });

  test('that was replaced at its socket is not spoken to', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor();
    const [mine, other] = [await machine.spec('mine', idle), await machine.spec('other', idle)];
    const [first, second] = [await monitor.boot(mine), await monitor.boot(other)];
    first.release();
    second.release();
    const socket = join(mine.dir, 'qmp.sock');
    expect(as(mine.uid, 'rm', socket).status).toBe(0);
    expect(as(mine.uid, 'ln', '-s', join(other.dir, 'qmp.sock'), socket).status).toBe(0);
    const adopted = await monitor.adopt(mine, first.processes);
    expect((await adopted?.console())?.length).toBe(0);
    await adopted?.kill();
    const untouched = await monitor.adopt(other, second.processes);
    if (!untouched) throw new Error('not found');
    await untilSays(untouched, 'guest is up');
    await untouched.kill();
  });
});
