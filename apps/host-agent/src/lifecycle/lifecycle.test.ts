/**
 * The lifecycle with monitors, disks and slots that live in memory, so that every race can be stepped
 * through. Real ones are covered by their own tests and end to end.
 */
import { existsSync } from 'node:fs';
import { mkdir, mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HostCreate, HostSandbox } from '@perch/protocol';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { DiskLayer } from '../disk/index.ts';
import type { NetworkLayer, Slot } from '../network/index.ts';
import type { TemplateStore } from '../template/index.ts';
import type { Vm, VmMonitor } from '../vmm/index.ts';
import { Admission } from './admission.ts';
import { Journal } from './journal.ts';
import { Lifecycle } from './lifecycle.ts';

const request: HostCreate = {
  generation: 1,
  template: 'base',
  vcpus: 1,
  memory_mb: 128,
  disk_mb: 64,
  access_token: 'a'.repeat(64),
  env: {},
};

/** The machine below the lifecycle. It outlives a host agent that is started again. */
class FakeMachine {
  readonly vms = new Map<string, { end: (reason: string) => void; exited: Promise<string>; pid: number }>();
  readonly disks = new Set<string>();
  readonly slots = new Set<number>();
  readonly order: string[] = [];
  bootGate: Promise<void> = Promise.resolve();
  readyGate: Promise<void> = Promise.resolve();
  killFails = 0;
  #pid = 1;

  monitor: VmMonitor = {
    kind: 'qemu',
    boot: async ({ dir }) => {
      await this.bootGate;
      const { promise: exited, resolve: end } = Promise.withResolvers<string>();
      this.vms.set(dir, { end, exited, pid: this.#pid++ });
      return this.#vm(dir);
    },
    adopt: async ({ dir }) => (this.vms.has(dir) ? this.#vm(dir) : undefined),
    sweep: async () => {},
  };

  #vm(dir: string): Vm {
    const vm = this.vms.get(dir);
    if (!vm) throw new Error(`no VM in ${dir}`);
    return {
      process: { pid: vm.pid, startTime: 1 },
      exited: vm.exited,
      timings: {},
      console: async () => Buffer.from('console'),
      kill: async () => {
        if (this.killFails-- > 0) throw new Error('cannot kill');
        this.order.push('monitor');
        this.vms.delete(dir);
        vm.end('killed');
      },
      release: () => {},
    } as Vm;
  }

  disk: DiskLayer = {
    kind: 'qcow2',
    create: async ({ dir }) => {
      this.disks.add(dir);
      return { path: join(dir, 'disk'), format: 'qcow2', maxFileBytes: 1 };
    },
    open: async ({ dir }) => ({ path: join(dir, 'disk'), format: 'qcow2', maxFileBytes: 1 }),
    remove: async ({ dir }) => {
      this.order.push('disk');
      this.disks.delete(dir);
    },
    occupied: async () => 0,
  };

  network(): NetworkLayer {
    const describe = (number: number): Slot => ({
      number,
      namespace: `ns${number}`,
      tap: 'tap0',
      mac: '02:fc:00:00:00:05',
      address: `10.0.0.${number}`,
      uid: process.getuid?.() ?? 0,
    });
    return {
      start: async (inUse) => {
        for (const slot of this.slots) if (!inUse.includes(slot)) this.slots.delete(slot);
      },
      acquire: async () => {
        const number = [1, 2, 3, 4, 5].find((one) => !this.slots.has(one)) ?? 6;
        this.slots.add(number);
        return describe(number);
      },
      describe,
      release: async (number) => {
        this.order.push('slot');
        this.slots.delete(number);
      },
      counts: () => ({ total: 5, used: this.slots.size, ready: 0 }),
      stop: async () => {},
    };
  }
}

async function host(machine = new FakeMachine()) {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-lifecycle-'));
  const vmsDir = join(dir.path, 'vms');
  const begin = async () => {
    const journal = new Journal(join(dir.path, 'journal.db'));
    const lifecycle = new Lifecycle({
      journal,
      network: machine.network(),
      disks: machine.disk,
      monitor: machine.monitor,
      guest: {
        waitForAgent: (_address, signal) => Promise.race([machine.readyGate, aborted(signal)]),
        giveIdentity: async () => {},
      },
      templates: {
        get: (name: string) => ({ name, contentId: 'x', sizeBytes: 32 * 2 ** 20, rootfs: '/base' }),
      } as unknown as TemplateStore,
      admission: new Admission({ memoryMb: 1000, overheadMb: 64, dataDir: dir.path, keepDiskMb: 0 }),
      vmsDir,
      kernel: '/k',
      initramfs: '/i',
      bootTimeoutMs: 1000,
      log: pino({ level: 'silent' }),
    });
    await lifecycle.start();
    return { lifecycle, journal };
  };
  let { lifecycle, journal } = await begin();
  return {
    machine,
    vmsDir,
    get lifecycle() {
      return lifecycle;
    },
    /** What a new process finds after the old one was killed between any two steps. */
    async restart() {
      void lifecycle.stop();
      journal.close();
      ({ lifecycle, journal } = await begin());
    },
    [Symbol.asyncDispose]: async () => {
      await lifecycle.stop();
      journal.close();
      await dir.remove();
    },
  };
}

function seen(lifecycle: Lifecycle, id: string, status: string): Promise<HostSandbox> {
  const { promise, resolve } = Promise.withResolvers<HostSandbox>();
  const stop = lifecycle.watch((sandbox) => {
    if (sandbox.id !== id || sandbox.status !== status) return;
    stop();
    resolve(sandbox);
  });
  return promise;
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
}

const id = `sb${'a'.repeat(18)}`;

function nothingLeft(machine: FakeMachine, vmsDir: string) {
  expect([...machine.vms.keys(), ...machine.disks, ...machine.slots]).toEqual([]);
  expect(existsSync(join(vmsDir, id))).toBe(false);
}

test('teardown goes monitor, disk, slot', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  await h.lifecycle.destroy(id);
  expect(h.machine.order).toEqual(['monitor', 'disk', 'slot']);
  nothingLeft(h.machine, h.vmsDir);
});

test('a destroy cuts a create short, wherever it stands', async () => {
  for (const gate of ['bootGate', 'readyGate'] as const) {
    await using h = await host();
    const opened = Promise.withResolvers<void>();
    h.machine[gate] = opened.promise;
    const creating = h.lifecycle.create(id, request);
    const outcome = expect(creating).rejects.toMatchObject({ code: 'sandbox_not_running' });
    await seen(h.lifecycle, id, 'creating');
    const destroyed = h.lifecycle.destroy(id);
    opened.resolve();
    await destroyed;
    await outcome;
    nothingLeft(h.machine, h.vmsDir);
  }
});

test('the same create again gives the same sandbox, also while the first is under way', async () => {
  await using h = await host();
  const [first, second] = await Promise.all([
    h.lifecycle.create(id, request),
    h.lifecycle.create(id, request),
  ]);
  expect(second).toEqual(first);
  expect(await h.lifecycle.create(id, request)).toEqual(first);
  expect(h.machine.vms.size).toBe(1);
  await expect(h.lifecycle.create(id, { ...request, vcpus: 2 })).rejects.toMatchObject({
    code: 'sandbox_exists',
  });
});

test('two destroys and an exit at the same time remove everything once', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  h.machine.vms.get(join(h.vmsDir, id))?.end('gone');
  await Promise.all([h.lifecycle.destroy(id), h.lifecycle.destroy(id)]);
  expect(h.machine.order.filter((step) => step === 'slot')).toHaveLength(1);
  nothingLeft(h.machine, h.vmsDir);
});

test('a VM that ends is failed with its reason, and holds nothing any more', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  const failed = seen(h.lifecycle, id, 'failed');
  h.machine.vms.get(join(h.vmsDir, id))?.end('The VM monitor was ended by SIGKILL.');
  expect(await failed).toMatchObject({ status: 'failed', reason: 'The VM monitor was ended by SIGKILL.' });
  await h.lifecycle.destroy(id);
  nothingLeft(h.machine, h.vmsDir);
});

test('a teardown step that fails is tried again, and what depends on it waits', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  h.machine.killFails = 2;
  await h.lifecycle.destroy(id);
  expect(h.machine.order).toEqual(['monitor', 'disk', 'slot']);
  nothingLeft(h.machine, h.vmsDir);
});

test('more than the host has is refused before anything is made', async () => {
  await using h = await host();
  await expect(h.lifecycle.create(id, { ...request, memory_mb: 2000 })).rejects.toMatchObject({
    code: 'capacity_exhausted',
    details: { resource: 'memory', requested: 2064, available: 1000 },
  });
  expect(h.lifecycle.list()).toEqual([]);
  nothingLeft(h.machine, h.vmsDir);
});

test('of many creates at once only those that fit together are admitted', async () => {
  await using h = await host();
  const ids = Array.from({ length: 8 }, (_, n) => `sb${String(n).repeat(18)}`);
  const outcomes = await Promise.allSettled(
    ids.map((one) => h.lifecycle.create(one, { ...request, memory_mb: 256 })),
  );
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
});

test('a host agent that is started again adopts what runs', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  await h.restart();
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'running', generation: 1 });
  const failed = seen(h.lifecycle, id, 'failed');
  h.machine.vms.get(join(h.vmsDir, id))?.end('gone');
  expect((await failed).reason).toBe('gone');
});

test('a VM that ended while no host agent ran is failed, and what it held is given back', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  h.machine.vms.clear();
  await h.restart();
  expect(h.lifecycle.get(id)).toMatchObject({
    status: 'failed',
    reason: expect.stringContaining('was gone'),
  });
  nothingLeft(h.machine, h.vmsDir);
});

test('a create that a crash cut off is undone', async () => {
  await using h = await host();
  h.machine.readyGate = new Promise(() => {});
  void h.lifecycle.create(id, request).catch(() => {});
  await expect.poll(() => h.machine.vms.size).toBe(1);
  await h.restart();
  expect(h.lifecycle.get(id)).toMatchObject({
    status: 'failed',
    reason: expect.stringContaining('being created'),
  });
  nothingLeft(h.machine, h.vmsDir);
});

test('a directory that no journal entry owns is removed at the start', async () => {
  await using h = await host();
  await mkdir(join(h.vmsDir, id));
  await h.restart();
  nothingLeft(h.machine, h.vmsDir);
});
