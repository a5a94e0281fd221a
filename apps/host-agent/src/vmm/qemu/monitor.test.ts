/** Real guests on a real QEMU: needs root, QEMU and a kernel. Sends nothing outside a namespace of its own. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openCgroups, processesOfUid, readProcess, signalProcess } from '../../linux/index.ts';
import type { ProcessRef, Vm, VmSpec } from '../monitor.ts';
import { consoleBytes } from './arguments.ts';
import type { Step } from './test-guest.ts';
import { canRunGuests, TestMachine } from './test-machine.ts';
import { maxDeviceState } from './vm-directory.ts';

const idle: Step[] = [{ say: 'guest is up\n' }, 'wait for ever'];
/** Of a guest under TCG on a machine that does other things too. */
const patience = { timeout: 60_000, interval: 50 };

async function untilSays(vm: Vm, text: string): Promise<void> {
  await expect.poll(async () => String(await vm.console()), patience).toContain(text);
}

/** The process that is QEMU. */
function of(vm: Vm): ProcessRef {
  const [process] = vm.processes;
  if (!process) throw new Error('The VM has no process');
  return process;
}

function status(pid: number): Record<string, string> {
  const lines = readFileSync(`/proc/${pid}/status`, 'utf8').trim().split('\n');
  return Object.fromEntries(lines.map((line) => line.split(':\t') as [string, string]));
}

/** A command as another user, with nothing else. */
function as(uid: number, ...command: string[]) {
  const drop = ['--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups', '--'];
  return spawnSync('setpriv', [...drop, ...command], { encoding: 'utf8' });
}

async function leftovers(machine: TestMachine, spec: VmSpec) {
  const cgroups = await openCgroups();
  return {
    processes: processesOfUid(spec.uid).length,
    cgroups: await cgroups.list(`perch-${machine.instance}`),
  };
}

const none = { processes: 0, cgroups: [] };

describe.runIf(canRunGuests)('a VM monitor', { timeout: 120_000 }, () => {
  test('runs a guest as nobody, without privileges, in its own network; killed, it leaves nothing', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor();
    const spec = await machine.spec('idle', idle);
    const vm = await monitor.boot(spec);
    const { pid } = of(vm);
    expect(status(pid)).toMatchObject({
      Uid: Array(4).fill(spec.uid).join('\t'),
      Gid: Array(4).fill(spec.uid).join('\t'),
      Groups: ' ',
      NoNewPrivs: '1',
      Seccomp: '2',
      ...Object.fromEntries(
        ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'].map((set) => [set, '0'.repeat(16)]),
      ),
    });
    const network = statSync(`/proc/${pid}/ns/net`).ino;
    expect(network).toBe(statSync(`/run/netns/${spec.network.namespace}`).ino);
    expect(network).not.toBe(statSync('/proc/self/ns/net').ino);
    for (const kind of ['ipc', 'uts']) {
      expect(readlinkSync(`/proc/${pid}/ns/${kind}`)).not.toBe(readlinkSync(`/proc/self/ns/${kind}`));
    }
    expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).toMatch(/^PATH=[^\0]*\0$/);
    const limit = spec.disk.kind === 'file' ? spec.disk.maxFileBytes : maxDeviceState;
    expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(new RegExp(`Max file size +${limit} `));
    expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toContain(`perch-${machine.instance}/idle`);

    await untilSays(vm, 'guest is up');
    await untilSays(vm, 'guest is up');
    await vm.kill();
    await vm.kill();
    expect(await vm.exited).toBe('The VM monitor was ended by Perch');
    expect(String(await vm.console())).toContain('guest is up');
    expect(await leftovers(machine, spec)).toEqual(none);
  });

  test('inherits no descriptors but its own', async () => {
    await using machine = new TestMachine();
    const vm = await (await machine.monitor()).boot(await machine.spec('fds', idle));
    const fds = `/proc/${of(vm).pid}/fd`;
    const targets = readdirSync(fds).map((fd) => readlinkSync(join(fds, fd)));
    const known =
      /^(\/dev\/(null|net\/tun)|socket:|anon_inode:|pipe:)|\/fds\/(monitor\.log|memfile|rootfs\.qcow2|base\.ext4)$/;
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

  test('tells of a signal from outside', async () => {
    await using machine = new TestMachine();
    const spec = await machine.spec('signal', idle);
    const vm = await (await machine.monitor()).boot(spec);
    signalProcess(of(vm), 9);
    expect(await vm.exited).toBe('The VM monitor was ended by signal 9 (SIGKILL)');
    expect(await leftovers(machine, spec)).toEqual(none);
  });

  test('that does not start says why, and leaves nothing', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor();
    const spec = await machine.spec('broken', idle);
    const before = readdirSync(spec.dir);
    writeFileSync(spec.disk.path, 'not a disk');
    await expect(monitor.boot(spec)).rejects.toThrow(/did not start: .*code 1: .*not in qcow2 format/);
    expect(await leftovers(machine, spec)).toEqual(none);
    expect(readdirSync(spec.dir)).toEqual(before);
    const nowhere = { ...spec, network: { ...spec.network, namespace: 'perch-none' } };
    await expect(monitor.boot(nowhere)).rejects.toThrow(/did not start/);
    expect(readdirSync(spec.dir)).toEqual(before);
  });

  test('keeps the last of a console that never stops', async () => {
    await using machine = new TestMachine();
    const steps: Step[] = [{ repeat: `${'x'.repeat(999)}\n` }];
    const vm = await (await machine.monitor()).boot(await machine.spec('noise', steps));
    await expect.poll(async () => (await vm.console()).length, patience).toBe(consoleBytes);
    expect((await vm.console()).length).toBe(consoleBytes);
    await vm.kill();
  });

  test('is found again by another host agent, which hears of its end', async () => {
    await using machine = new TestMachine();
    const spec = await machine.spec('adopted', idle);
    const first = await (await machine.monitor()).boot(spec);
    await untilSays(first, 'guest is up');
    first.release();

    const monitor = await machine.monitor();
    const byPid = await monitor.adopt(spec, first.processes);
    expect(byPid?.processes).toEqual(first.processes);
    byPid?.release();
    const byPlace = await monitor.adopt(spec, []);
    expect(byPlace?.processes).toEqual(first.processes);
    const stale = { ...of(first), startTime: of(first).startTime - 1 };
    byPlace?.release();
    const vm = await monitor.adopt(spec, [stale]);
    if (!vm) throw new Error('not found');
    expect(vm.processes).toEqual(first.processes);
    signalProcess(of(vm), 9);
    expect(await vm.exited).toMatch(/its exit status is not known/);
    expect(await monitor.adopt(spec, first.processes)).toBeUndefined();
    expect(await leftovers(machine, spec)).toEqual(none);
  });

  test('whose guest panicked while nobody listened still tells so', async () => {
    await using machine = new TestMachine();
    const spec = await machine.spec('missed', [{ say: 'guest is up\n' }, 'exit']);
    const first = await (await machine.monitor()).boot(spec);
    first.release();
    // The stopped machine uses no more time.
    const spent = () => Number(readFileSync(`/proc/${of(first).pid}/stat`, 'utf8').split(' ')[13]);
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

  test('that hangs is adopted all the same, and can be killed', async () => {
    await using machine = new TestMachine();
    const spec = await machine.spec('hangs', idle);
    const first = await (await machine.monitor()).boot(spec);
    first.release();
    signalProcess(of(first), 19);
    await expect.poll(() => readProcess(of(first).pid)?.state, patience).toBe('T');
    const vm = await (await machine.monitor()).adopt(spec, first.processes);
    await vm?.kill();
    expect(await leftovers(machine, spec)).toEqual(none);
  });

  test('can touch neither another VM nor what it shares with it', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor();
    const [mine, other] = [await machine.spec('mine', idle), await machine.spec('other', idle)];
    const vms = [await monitor.boot(mine), await monitor.boot(other)];
    const overwrite = (path: string) =>
      as(mine.uid, 'dd', 'if=/dev/zero', `of=${path}`, 'count=1', 'conv=notrunc');
    for (const name of readdirSync(other.dir)) {
      expect(as(mine.uid, 'cat', join(other.dir, name)).stderr).toMatch(/Permission denied/);
      expect(overwrite(join(other.dir, name)).stderr).toMatch(/Permission denied/);
    }
    for (const name of ['kernel', 'initramfs', 'memfile', 'base.ext4', 'monitor.log']) {
      expect(overwrite(join(mine.dir, name)).status).not.toBe(0);
      expect(as(mine.uid, 'chmod', '666', join(mine.dir, name)).status).not.toBe(0);
    }
    expect(as(mine.uid, 'kill', `${vms[1]?.processes[0]?.pid}`).status).not.toBe(0);
    for (const vm of vms) await vm.kill();
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

  test('of a sandbox that nobody knows leaves a cgroup, which is removed by name', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor();
    const cgroups = await openCgroups();
    const limits = { memoryBytes: 2 ** 28, cpus: 1, tasks: 10 };
    for (const id of ['kept', 'stray']) await cgroups.create(`perch-${machine.instance}/${id}`, limits);
    const sweep = async (...owned: string[]) => {
      for (const left of await monitor.unowned(() => new Set(owned))) await left.remove();
    };
    await sweep('kept');
    expect(await cgroups.list(`perch-${machine.instance}`)).toEqual(
      cgroups.missing.length < 3 ? ['kept'] : [],
    );
    await sweep();
    expect(await cgroups.list(`perch-${machine.instance}`)).toEqual([]);
  });
});
