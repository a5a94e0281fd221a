/**
 * Guests whose memory is served, with a real pager and a real userfaultfd, and a stand-in for Firecracker: on any machine
 * whose kernel gives a userfaultfd. `contract.test.ts` has the real one, in the lab.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findTool } from '@perch/node-kit';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { isAlive, type ProcessRef, run, signalProcess } from '../../linux/index.ts';
import { encodeHeader } from '../../snapshot/header.ts';
import { type BuildId, createMapping, mergeMapping } from '../../snapshot/index.ts';
import { build } from '../../snapshot/testing.ts';
import type { Vm, VmMonitor, VmSpec, VmState } from '../monitor.ts';
import { canRunGuests, TestMachine } from '../qemu/test-machine.ts';
import { leftovers, none, of, patience, untilSays } from '../test-vm.ts';
import { jailRoot } from './jail.ts';
import { standInPrograms } from './testing/stand-in.ts';

const { PERCH_PAGER: pager } = process.env;
const page = 4096;
const pages = 256;

const probe = `import ctypes,sys; sys.exit(ctypes.CDLL(None).syscall(323, 1) < 0)`;
const canPage =
  canRunGuests &&
  pager !== undefined &&
  findTool('python3') !== undefined &&
  spawnSync('python3', ['-c', probe]).status === 0;

/** Memory in two builds, of which the later has pages of zeros too. */
async function aState(machine: TestMachine): Promise<{ state: VmState; digest: string }> {
  const memory = Buffer.alloc(pages * page);
  const flat = randomBytes(100 * page);
  flat.copy(memory);
  const [one, two] = [build(1), build(2)];
  const first = createMapping(memory.length, {
    build: one,
    runs: [{ offset: 0, length: flat.length, storageOffset: 0 }],
  });
  const later = randomBytes(50 * page);
  const runs = Array.from({ length: 50 }, (_, i) => ({
    ...{ offset: (3 + 4 * i) * page, length: page, storageOffset: i * page },
  }));
  for (const { offset, storageOffset } of runs)
    later.copy(memory, offset, storageOffset, storageOffset + page);
  memory.fill(0, 0, page);
  const mapping = mergeMapping(first, {
    build: two,
    runs: [{ offset: 0, length: page, storageOffset: null }, ...runs],
  });
  const path = (name: string) => join(machine.root, name);
  const header = { generation: 1, build: two, baseBuild: one, mapping };
  const files = {
    [one]: Buffer.concat([flat, Buffer.alloc(memory.length - flat.length)]),
    [two]: later,
    header: encodeHeader(header),
    snapfile: Buffer.from(JSON.stringify({ bytes: memory.length })),
  };
  for (const [name, bytes] of Object.entries(files)) await writeFile(path(name), bytes, { mode: 0o444 });
  return {
    state: {
      image: { header, headerFile: path('header'), memfileOf: (id: BuildId) => path(id) },
      devices: path('snapfile'),
    },
    digest: createHash('sha256').update(memory).digest('hex'),
  };
}

/** A disk that nobody opens. */
async function specOf(machine: TestMachine, id: string): Promise<VmSpec> {
  const spec = await machine.spec(id, []);
  const path = join(spec.dir, 'rootfs');
  await run('mknod', [path, 'b', '7', '255']);
  await chown(path, spec.uid, spec.uid);
  return { ...spec, disk: { kind: 'block', path } };
}

/** The programs are found by what names them. */
async function standIn(machine: TestMachine): Promise<VmMonitor> {
  const { firecracker, jailer } = await standInPrograms(machine.root);
  vi.stubEnv('PERCH_FIRECRACKER', firecracker);
  vi.stubEnv('PERCH_JAILER', jailer);
  return await machine.monitor('firecracker');
}

function status(pid: number, field: string): string | undefined {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return new RegExp(`^${field}:\\t(.*)$`, 'm').exec(text)?.[1];
}

const pagerOf = (vm: Vm): ProcessRef => vm.processes[1] as ProcessRef;

const unless = canPage ? '' : ': skipped, without a userfaultfd, python3 or PERCH_PAGER';

describe.runIf(canPage)(`a VM whose memory is served${unless}`, { timeout: 120_000 }, () => {
  beforeEach(() => {
    vi.stubEnv('PERCH_RESTORE', 'pager');
  });
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  test('has the memory of its state; the pager is its user, confined, and has nothing but what it serves', async () => {
    await using machine = new TestMachine();
    const monitor = await standIn(machine);
    const spec = await specOf(machine, 'paged');
    const before = readdirSync(spec.dir);
    const { state, digest } = await aState(machine);
    const vm = await monitor.restore(spec, state);
    expect(vm.memoryWay).toEqual({ name: 'paged', ms: expect.any(Number) });
    await vm.thaw();
    await untilSays(vm, digest);

    const { pid } = pagerOf(vm);
    expect(status(pid, 'Uid')).toBe(Array(4).fill(spec.uid).join('\t'));
    expect(status(pid, 'Groups')?.trim()).toBe('');
    expect(status(pid, 'NoNewPrivs')).toBe('1');
    expect(status(pid, 'Seccomp')).toBe('2');
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
      expect(status(pid, set)).toBe('0'.repeat(16));
    }
    // What is not dumpable is root's in /proc.
    expect(statSync(`/proc/${pid}/fd`).uid).toBe(0);
    const targets = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    const own = targets.filter((path) => path.startsWith('/')).map((path) => path.replace(/^.*\//, ''));
    expect(own.sort()).toEqual(
      [build(1), build(2), 'header', 'monitor.log', 'null', 'pager.working-set'].sort(),
    );
    expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toContain(`perch-${machine.instance}/paged`);
    expect(readdirSync(jailRoot(spec))).not.toContain('pager.sock');

    const counts = () =>
      Object.fromEntries(
        monitor.counted?.().map(({ of: part, counter, value }) => [`${part} ${counter}`, value]) ?? [],
      );
    await expect.poll(() => counts()['block read_bytes'], patience).toBeGreaterThanOrEqual(7);
    expect(counts()['pager faults']).toBeGreaterThan(0);
    expect(counts()['pager copied_bytes']).toBeLessThanOrEqual(pages * page);
    await vm.kill();
    expect(await vm.exited).toBe('The VM monitor was ended by Perch');
    expect(vm.processes.map(isAlive)).toEqual([false, false]);
    expect(await leftovers(machine, spec)).toEqual(none);
    // The rest goes with the directory.
    expect(readdirSync(spec.dir)).toEqual(expect.arrayContaining(before));
  });

  test('gets first what the guest before it has asked for, when it goes on from the same state', async () => {
    await using machine = new TestMachine();
    const monitor = await standIn(machine);
    const { state, digest } = await aState(machine);
    const hits = () => monitor.counted?.().find(({ counter }) => counter === 'prefetch_hits')?.value ?? 0;
    for (const [id, expected] of [
      ['first', 0],
      ['second', pages / 16],
    ] as const) {
      const vm = await monitor.restore(await specOf(machine, id), state);
      // It is written when nothing was asked for during a while.
      if (expected > 0)
        await expect.poll(() => readdirSync(join(machine.root, 'working-sets'))).toEqual([build(2)]);
      await sleep(500);
      await vm.thaw();
      await untilSays(vm, digest);
      await sleep(500);
      await vm.kill();
      expect(hits()).toBe(expected);
    }
  });

  test('ends with its pager, and the pager with it; the sentence tells of the one that ended', async () => {
    await using machine = new TestMachine();
    const monitor = await standIn(machine);
    const { state, digest } = await aState(machine);
    const ends = [/^The VM monitor was ended by signal 9/, /^The pager was ended by signal 9/];
    for (const [nth, reason] of ends.entries()) {
      const spec = await specOf(machine, `ends${nth}`);
      const vm = await monitor.restore(spec, state);
      await vm.thaw();
      await untilSays(vm, digest);
      signalProcess(vm.processes[nth] as ProcessRef, 9);
      expect(await vm.exited).toMatch(reason);
      expect(vm.processes.map(isAlive)).toEqual([false, false]);
      expect(await leftovers(machine, spec)).toEqual(none);
    }
  });

  test('is found again with its pager by another host agent; without it, it is ended with that reason', async () => {
    await using machine = new TestMachine();
    const first = await standIn(machine);
    const { state } = await aState(machine);
    const spec = await specOf(machine, 'adopted');
    const vm = await first.restore(spec, state);
    vm.release();
    for (const known of [vm.processes, []]) {
      const again = await (await standIn(machine)).adopt(spec, known);
      expect(again?.processes).toEqual(vm.processes);
      again?.release();
    }
    const adopted = await (await standIn(machine)).adopt(spec, vm.processes);
    signalProcess(pagerOf(vm), 9);
    expect(await adopted?.exited).toMatch(/^The pager is gone; its exit status is not known/);
    expect(vm.processes.map(isAlive)).toEqual([false, false]);

    const other = await specOf(machine, 'lost');
    const lost = await first.restore(other, state);
    lost.release();
    signalProcess(pagerOf(lost), 9);
    const found = await (await standIn(machine)).adopt(other, lost.processes);
    expect(await found?.exited).toMatch(/^The pager is gone/);
    expect(lost.processes.map(isAlive)).toEqual([false, false]);

    const third = await specOf(machine, 'alone');
    const alone = await first.restore(third, state);
    alone.release();
    // Not at once gone by itself: it is told of no end while its process is stopped.
    signalProcess(pagerOf(alone), 19);
    signalProcess(of(alone), 9);
    await expect.poll(() => isAlive(of(alone)), patience).toBe(false);
    expect(await (await standIn(machine)).adopt(third, alone.processes)).toBeUndefined();
    expect(await leftovers(machine, third)).toEqual(none);
  });

  test.each([
    ['', {}],
    [', also one that is to be limited', { diskBytes: 2 ** 20 }],
  ])('that ends as soon as it is started is started again, once%s', async (_, limits) => {
    await using machine = new TestMachine();
    machine.limits = limits;
    const monitor = await standIn(machine);
    const spec = await specOf(machine, 'again');
    const dies = join(spec.dir, 'dies');
    await writeFile(dies, '');
    const vm = await monitor.boot(spec);
    await untilSays(vm, 'guest is up');
    expect(await readFile(join(spec.dir, 'boots'), 'utf8')).toBe('++');
    await vm.kill();
    const other = await specOf(machine, 'never');
    await mkdir(join(other.dir, 'dies'));
    const before = readdirSync(other.dir);
    await expect(monitor.boot(other)).rejects.toThrow('did not start: The VM monitor exited with code 3');
    expect(await readFile(join(other.dir, 'boots'), 'utf8')).toBe('++');
    expect(readdirSync(other.dir)).toEqual([...before, 'boots'].sort());
    expect(await leftovers(machine, other)).toEqual(none);
  });

  test('is held to the limits of its host from the start on, or to none, whatever its state says', async () => {
    await using machine = new TestMachine();
    const { state } = await aState(machine);
    const limitsOf = async (vm: Vm) => {
      const lines = String(await vm.console()).split('\n');
      const said = lines.filter((line) => line.startsWith('limits '));
      return said.map((line) => JSON.parse(line.slice('limits '.length)) as object);
    };
    const free = await standIn(machine);
    machine.limits = { diskBytes: 2 ** 20, networkBytes: 2 ** 21 };
    const held = await standIn(machine);
    const booted = await held.boot(await specOf(machine, 'booted'));
    const restored = await held.restore(await specOf(machine, 'restored'), state);
    const none = { size: 0, refill_time: 0 };
    const network = { bandwidth: { size: 2 ** 21, refill_time: 1000 }, ops: none };
    for (const vm of [booted, restored]) {
      expect(await limitsOf(vm)).toEqual([
        {
          drive_id: 'rootfs',
          rate_limiter: { bandwidth: { size: 2 ** 20, refill_time: 1000 }, ops: none },
        },
        { iface_id: 'eth0', rx_rate_limiter: network, tx_rate_limiter: network },
      ]);
      await vm.kill();
    }
    const unlimited = { bandwidth: none, ops: none };
    const letGo = await free.restore(await specOf(machine, 'free'), state);
    expect(await limitsOf(letGo)).toEqual([
      { drive_id: 'rootfs', rate_limiter: unlimited },
      { iface_id: 'eth0', rx_rate_limiter: unlimited, tx_rate_limiter: unlimited },
    ]);
    await letGo.kill();
  });

  test('that cannot be loaded, or whose memory is too short, leaves nothing', async () => {
    await using machine = new TestMachine();
    const monitor = await standIn(machine);
    const { state } = await aState(machine);
    const spec = await specOf(machine, 'broken');
    const before = readdirSync(spec.dir);
    const devices = join(machine.root, 'no-devices');
    await writeFile(devices, 'no device state', { mode: 0o444 });
    await expect(monitor.restore(spec, { ...state, devices })).rejects.toThrow('did not start');
    expect(readdirSync(spec.dir)).toEqual(before);
    const short = join(machine.root, 'short');
    await writeFile(short, Buffer.alloc(page), { mode: 0o444 });
    const image = { ...state.image, memfileOf: () => short };
    await expect(monitor.restore(spec, { ...state, image })).rejects.toThrow(/pager .*code 1.*memfile/);
    expect(readdirSync(spec.dir)).toEqual(before);
    expect(await leftovers(machine, spec)).toEqual(none);
  });
});
