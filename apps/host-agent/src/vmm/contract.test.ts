/**
 * Each promise of a monitor, held by real guests: needs root, a kernel and the monitor. Sends nothing outside a namespace
 * of its own.
 */
import { spawnSync } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { MonitorChoice } from '@perch/protocol';
import { describe, expect, test } from 'vitest';
import type { DiskState } from '../disk/index.ts';
import { openCgroups, readProcess, signalProcess } from '../linux/index.ts';
import { encodeHeader } from '../snapshot/header.ts';
import { createMapping, newBuildId } from '../snapshot/index.ts';
import { monitors } from './kinds.ts';
import type { VmMonitor, VmSpec, VmState } from './monitor.ts';
import { logName } from './process/index.ts';
import type { Step } from './qemu/test-guest.ts';
import { canRunGuests, diskBytes, TestMachine } from './qemu/test-machine.ts';
import { maxDeviceState } from './qemu/vm-directory.ts';
import { leftovers, none, of, patience, save, spoilDisk, untilSays } from './test-vm.ts';

const idle: Step[] = [{ say: 'guest is up\n' }, 'wait for ever'];
const talking: Step[] = [{ say: 'guest is up\n' }, { repeat: 'still here\n' }];

/** Emulation works wherever guests do; that /dev/kvm opens says little, so others count where PERCH_VMM names them. */
const choices = (Object.keys(monitors) as MonitorChoice[]).filter(
  (choice) => choice === 'qemu-tcg' || choice === process.env.PERCH_VMM,
);

function status(pid: number): Record<string, string> {
  const lines = readFileSync(`/proc/${pid}/status`, 'utf8').trim().split('\n');
  return Object.fromEntries(lines.map((line) => line.split(':\t') as [string, string]));
}

/**
 * Capabilities that no program of the process could have. A jailer keeps the ones that it needs itself; the process has
 * none of them, and gets no new privileges.
 */
const bounding: Partial<Record<MonitorChoice, string>> = { firecracker: '00000000092400cb' };

/** A command as another user, with nothing else. */
function as(uid: number, ...command: string[]) {
  const drop = ['--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups', '--'];
  return spawnSync('setpriv', [...drop, ...command], { encoding: 'utf8' });
}

/** The state of a guest that talks, and that has gone. */
async function savedGuest(machine: TestMachine, monitor: VmMonitor) {
  const spec = await machine.spec('source', talking);
  const source = await monitor.boot(spec);
  await untilSays(source, 'still here');
  await source.freeze();
  const state = await save(machine, source, spec);
  await source.kill();
  return { spec, state };
}

async function copyOf(machine: TestMachine, spec: VmSpec, id: string): Promise<VmSpec> {
  return machine.specFor(id, { initramfs: spec.initramfs });
}

describe.runIf(canRunGuests).each(choices)('a VM of %s', { timeout: patience.timeout }, (choice) => {
  const { capabilities } = monitors[choice];

  test('runs a guest as nobody, without privileges, in its own network; killed, it leaves nothing', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor(choice);
    const spec = await machine.spec('idle', idle);
    const vm = await monitor.boot(spec);
    for (const { pid } of vm.processes) {
      expect(status(pid)).toMatchObject({
        Uid: Array(4).fill(spec.uid).join('\t'),
        Gid: Array(4).fill(spec.uid).join('\t'),
        Groups: ' ',
        NoNewPrivs: '1',
        Seccomp: '2',
        ...Object.fromEntries(['CapInh', 'CapPrm', 'CapEff', 'CapAmb'].map((set) => [set, '0'.repeat(16)])),
        CapBnd: bounding[choice] ?? '0'.repeat(16),
      });
      const network = statSync(`/proc/${pid}/ns/net`).ino;
      expect(network).toBe(statSync(`/run/netns/${spec.network.namespace}`).ino);
      expect(network).not.toBe(statSync('/proc/self/ns/net').ino);
      for (const kind of ['ipc', 'uts']) {
        expect(readlinkSync(`/proc/${pid}/ns/${kind}`)).not.toBe(readlinkSync(`/proc/self/ns/${kind}`));
      }
      expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).toMatch(/^(PATH=[^\0]*\0)?$/);
      const state = capabilities.differences === 'parent' ? spec.memoryMb * 2 ** 20 : maxDeviceState;
      const limit = spec.disk.kind === 'file' ? spec.disk.maxFileBytes : state;
      expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(new RegExp(`Max file size +${limit} `));
      expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toContain(`perch-${machine.instance}/idle`);
    }
    expect(vm.room !== undefined).toBe(capabilities.waitsForRoom);

    await untilSays(vm, 'guest is up');
    await untilSays(vm, 'guest is up');
    await vm.kill();
    await vm.kill();
    expect(await vm.exited).toBe('The VM monitor was ended by Perch');
    expect(String(await vm.console())).toContain('guest is up');
    expect(await leftovers(machine, spec)).toEqual(none);
  });

  test('that does not start says why, and leaves nothing', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor(choice);
    const spec = await machine.spec('broken', idle);
    const before = readdirSync(spec.dir);
    await spoilDisk(spec);
    await expect(monitor.boot(spec)).rejects.toThrow(/did not start: /);
    expect(await leftovers(machine, spec)).toEqual(none);
    expect(readdirSync(spec.dir)).toEqual(before);
    const nowhere = { ...spec, network: { ...spec.network, namespace: 'perch-none' } };
    await expect(monitor.boot(nowhere)).rejects.toThrow(/did not start/);
    expect(readdirSync(spec.dir)).toEqual(before);
  });

  test('is found again by another host agent, which hears of its end', async () => {
    await using machine = new TestMachine();
    const spec = await machine.spec('adopted', idle);
    const first = await (await machine.monitor(choice)).boot(spec);
    await untilSays(first, 'guest is up');
    first.release();

    const monitor = await machine.monitor(choice);
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

  test('that hangs is adopted all the same, and can be killed', async () => {
    await using machine = new TestMachine();
    const spec = await machine.spec('hangs', idle);
    const first = await (await machine.monitor(choice)).boot(spec);
    first.release();
    signalProcess(of(first), 19);
    await expect.poll(() => readProcess(of(first).pid)?.state, patience).toBe('T');
    const vm = await (await machine.monitor(choice)).adopt(spec, first.processes);
    await vm?.kill();
    expect(await leftovers(machine, spec)).toEqual(none);
  });

  test('can touch neither another VM nor what it shares with it', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor(choice);
    const [mine, other] = [await machine.spec('mine', idle), await machine.spec('other', idle)];
    const vms = [await monitor.boot(mine), await monitor.boot(other)];
    const overwrite = (path: string) =>
      as(mine.uid, 'dd', 'if=/dev/zero', `of=${path}`, 'count=1', 'conv=notrunc');
    for (const name of readdirSync(other.dir)) {
      expect(as(mine.uid, 'cat', join(other.dir, name)).stderr).toMatch(/Permission denied/);
      expect(overwrite(join(other.dir, name)).stderr).toMatch(/Permission denied/);
    }
    const place = `/proc/${vms[0]?.processes[0]?.pid}/cwd`;
    const shared = readdirSync(place).filter((name) => {
      const found = lstatSync(join(place, name));
      return found.isFile() && found.uid !== mine.uid;
    });
    expect(shared).toEqual(expect.arrayContaining(['kernel', 'initramfs']));
    for (const name of shared) {
      expect(as(mine.uid, 'test', '-e', join(place, name)).status).toBe(0);
      expect(overwrite(join(place, name)).stderr).toMatch(/Permission denied/);
      expect(as(mine.uid, 'chmod', '666', join(place, name)).stderr).toMatch(/Operation not permitted/);
    }
    expect(as(mine.uid, 'kill', `${vms[1]?.processes[0]?.pid}`).status).not.toBe(0);
    for (const vm of vms) await vm.kill();
  });

  test('of a sandbox that nobody knows leaves a cgroup, which is removed by name', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor(choice);
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

  test('ends with each of its processes, and with its guest', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor(choice);
    let count = 1;
    for (let nth = 0; nth < count; nth++) {
      const spec = await machine.spec(`signal${nth}`, idle);
      const vm = await monitor.boot(spec);
      count = vm.processes.length;
      const process = vm.processes[nth];
      if (!process) throw new Error('The VM has too few processes');
      signalProcess(process, 9);
      expect(await vm.exited).toMatch(/ was ended by signal 9 \(SIGKILL\)$/);
      expect(vm.processes.map(({ pid }) => readProcess(pid))).toEqual(vm.processes.map(() => undefined));
      expect(await leftovers(machine, spec)).toEqual(none);
    }
    const spec = await machine.spec('ends', [{ say: 'good night\n' }, 'power off']);
    const vm = await monitor.boot(spec);
    expect(await vm.exited).toMatch(/^The guest /);
    expect(await leftovers(machine, spec)).toEqual(none);
  });
});

describe.runIf(canRunGuests).each(choices)(
  'the state of a VM of %s',
  { timeout: patience.timeout },
  (choice) => {
    const { capabilities } = monitors[choice];

    test('is what others go on from, as often as they like, and a thawed source too', async () => {
      await using machine = new TestMachine();
      const monitor = await machine.monitor(choice);
      const spec = await machine.spec('source', talking);
      const source = await monitor.boot(spec);
      await untilSays(source, 'still here');
      await source.freeze();
      await source.freeze();
      expect(await source.isFrozen()).toBe(true);
      const state = await save(machine, source, spec);
      expect(state.since).toBe(capabilities.differences);
      const bytes = await readFile(state.devices);
      expect(monitor.recognises(bytes)).toBe(true);
      expect(monitor.recognises(bytes.subarray(1))).toBe(false);

      for (const id of ['first', 'second']) {
        const copy = await monitor.restore(await copyOf(machine, spec, id), state);
        expect(await copy.isFrozen()).toBe(true);
        expect(String(await copy.console())).toBe('');
        await copy.thaw();
        await untilSays(copy, 'still here');
        expect(String(await copy.console())).not.toContain('guest is up');
        expect(await readFile(join(machine.root, 'vms', id, logName), 'utf8')).toBe('');
        await copy.kill();
      }
      await source.thaw();
      expect(await source.isFrozen()).toBe(false);
      await source.console();
      await untilSays(source, 'still here');
      await source.kill();
    });

    test('goes on in processes of which none outlives another', async () => {
      await using machine = new TestMachine();
      const monitor = await machine.monitor(choice);
      const { spec, state } = await savedGuest(machine, monitor);
      let count = 1;
      for (let nth = 0; nth < count; nth++) {
        const copySpec = await copyOf(machine, spec, `copy${nth}`);
        const copy = await monitor.restore(copySpec, state);
        await copy.thaw();
        await untilSays(copy, 'still here');
        count = copy.processes.length;
        const process = copy.processes[nth];
        if (!process) throw new Error('The VM has too few processes');
        signalProcess(process, 9);
        expect(await copy.exited).toMatch(/ was ended by signal 9 \(SIGKILL\)$/);
        expect(copy.processes.map(({ pid }) => readProcess(pid))).toEqual(
          copy.processes.map(() => undefined),
        );
        expect(await leftovers(machine, copySpec)).toEqual(none);
      }
    });

    test('of a copy is its changed pages over the same memory', async () => {
      await using machine = new TestMachine();
      const monitor = await machine.monitor(choice);
      const { spec, state } = await savedGuest(machine, monitor);

      const copy = await monitor.restore(await copyOf(machine, spec, 'copy'), state);
      await copy.thaw();
      await untilSays(copy, 'still here');
      const atMost = await copy.unsavedBytesAtMost();
      await copy.freeze();
      const next = await save(machine, copy, spec, state.image);
      expect(next.changedBytes).toBeLessThan(state.changedBytes / 4);
      expect(next.changedBytes).toBeGreaterThan(0);
      expect(atMost).toBeGreaterThan(0);
      await copy.kill();

      const third = await monitor.restore(await copyOf(machine, spec, 'third'), next);
      await third.thaw();
      await untilSays(third, 'still here');
      await third.kill();
    });

    test('is gone on from while its source lives, whose disk lies on layers that both have', async () => {
      await using machine = new TestMachine();
      const monitor = await machine.monitor(choice);
      const { disks } = machine;
      const spec = await machine.spec('source', talking);
      const source = await monitor.boot(spec);
      await untilSays(source, 'still here');
      const place = { ...spec, sizeBytes: diskBytes };
      const early = await disks.prepareCapture(place, source);
      if (disks.capabilities.online === 'switch')
        await expect(early.holdStill()).rejects.toThrow('not stopped');
      let parent: DiskState = { format: 'image', image: await machine.emptyBase() };
      for (const id of ['first', 'second']) {
        const capture = await disks.prepareCapture(place, source);
        await source.freeze();
        const state = await save(machine, source, spec);
        await capture.holdStill();
        await source.thaw();
        let files = 0;
        parent = await capture.write(parent, () => join(machine.root, `${id}-${files++}.cow`));
        const copy = await monitor.restore(
          await machine.specFor(id, { initramfs: spec.initramfs, from: parent }),
          state,
        );
        await copy.thaw();
        await untilSays(copy, 'still here');
      }
      await source.console();
      await untilSays(source, 'still here');
    });

    test('that cannot be loaded leaves no process and no file', async () => {
      await using machine = new TestMachine();
      const monitor = await machine.monitor(choice);
      const spec = await machine.spec('source', talking);
      const memory = join(machine.root, 'memfile');
      const headerFile = join(machine.root, 'memfile.header');
      const build = newBuildId();
      const header = {
        generation: 0,
        build,
        baseBuild: build,
        mapping: createMapping(spec.memoryMb * 2 ** 20),
      };
      const state: VmState = {
        image: { header, headerFile, memfileOf: () => memory },
        devices: join(machine.root, 'snapfile'),
      };
      await writeFile(headerFile, encodeHeader(header), { mode: 0o444 });
      await writeFile(memory, Buffer.alloc(spec.memoryMb * 2 ** 20), { mode: 0o444 });
      await writeFile(state.devices, 'no device state', { mode: 0o444 });
      await expect(monitor.restore(spec, state)).rejects.toThrow('did not start');
    });
  },
);
