/** Guests that stand ready, step by step: see testing.ts. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { limits } from '@perch/protocol';
import { expect, test } from 'vitest';
import { FakeMachine, host, id, request, seen } from '../testing.ts';

const wanted = {
  ...request,
  vcpus: limits.vcpus.default,
  memory_mb: limits.memoryMb.default,
  disk_mb: limits.diskMb.default,
};
/** Room for six of them. */
const memoryMb = 3500;

async function ready(count: number) {
  const machine = new FakeMachine();
  const h = await host(machine, { readyGuests: count, memoryMb });
  await expect.poll(() => standing(machine)).toBe(count);
  machine.order.length = 0;
  return h;
}

/** Guests that stand still. */
function standing(machine: FakeMachine): number {
  return [...machine.vms.values()].filter(({ frozen }) => frozen).length;
}

test('a create takes over one that stands ready, with a slot, a disk and a monitor, and gives it an identity', async () => {
  await using h = await ready(1);
  const sandbox = await h.lifecycle.create(id, { ...wanted, env: { A: 'b' } });
  expect(sandbox).toMatchObject({
    id,
    status: 'running',
    generation: 1,
    template: 'base',
    address: '10.0.0.1',
  });
  expect(h.machine.order).toEqual(['thaw']);
  const [placeholder, given] = h.machine.told.slice(-2);
  expect(given).toMatchObject({ sandboxId: id, accessToken: wanted.access_token, env: { A: 'b' } });
  expect(given?.proof).toBe(placeholder?.accessToken);
  expect(given?.number).toBe((placeholder?.number ?? 0) + 1);
  expect(h.lifecycle.list().map((one) => one.id)).toEqual([id]);
});

test('another takes its place, and one that was taken is a sandbox like any other', async () => {
  await using h = await ready(1);
  await h.lifecycle.create(id, wanted);
  await expect.poll(() => standing(h.machine)).toBe(1);
  await h.lifecycle.pause(id, 1);
  expect(await h.lifecycle.resume(id, { generation: 2, access_token: 'c'.repeat(64) })).toMatchObject({
    status: 'running',
  });
  await h.lifecycle.destroy(id);
  expect(h.machine.vms.size).toBe(1);
  expect(h.machine.captured.size).toBe(1);
});

test('one of another shape starts as without them', async () => {
  await using h = await ready(1);
  expect(await h.lifecycle.create(id, request)).toMatchObject({
    status: 'running',
    memory_mb: request.memory_mb,
  });
  expect(h.machine.order).toContain('begin');
  expect(standing(h.machine)).toBe(1);
});

test('they are not counted as held, and go when their memory is needed', async () => {
  await using h = await ready(1);
  expect((await h.lifecycle.reservations.capacity()).memory.free).toBe(memoryMb);
  await h.lifecycle.create(id, { ...wanted, memory_mb: memoryMb - 500 });
  expect(h.machine.vms.size).toBe(1);
  expect(standing(h.machine)).toBe(0);
});

test('a create that is refused calls for none', async () => {
  const machine = new FakeMachine();
  await using h = await host(machine, { readyMost: 4, memoryMb });
  const { free } = (await h.lifecycle.reservations.capacity()).disk;
  for (const letter of ['b', 'c', 'd']) {
    const refused = h.lifecycle.create(`sb${letter.repeat(18)}`, { ...request, disk_mb: free + 10_000 });
    await expect(refused).rejects.toMatchObject({ code: 'capacity_exhausted' });
  }
  expect(h.lifecycle.ready.list()).toEqual([]);
});

test('they leave the other half of the network slots to sandboxes, and go when these need more', async () => {
  const machine = new FakeMachine();
  await using h = await host(machine, { readyGuests: 10, memoryMb: 20_000 });
  await expect.poll(() => standing(machine)).toBe(8);
  for (const letter of ['b', 'c', 'd', 'e', 'f']) {
    await h.lifecycle.create(`sb${letter.repeat(18)}`, request);
  }
  await expect.poll(() => standing(machine)).toBe(3);
});

test('one that is being made gives way at once, and leaves nothing', async () => {
  const machine = new FakeMachine();
  const gate = Promise.withResolvers<void>();
  machine.readyGate = gate.promise;
  await using h = await host(machine, { readyGuests: 1, memoryMb, bootTimeoutMs: 600_000 });
  await expect.poll(() => machine.vms.size).toBe(1);
  const begun = seen(h.lifecycle, id, 'creating');
  const creating = h.lifecycle.create(id, { ...wanted, memory_mb: memoryMb - 500 });
  await begun;
  gate.resolve();
  expect(await creating).toMatchObject({ status: 'running' });
  expect([...machine.vms.keys()]).toEqual([join(h.vmsDir, id)]);
});

test('failed sandboxes keep no memory from them', async () => {
  await using h = await ready(1);
  for (const letter of ['b', 'c', 'd', 'e', 'f']) {
    const other = `sb${letter.repeat(18)}`;
    await h.lifecycle.create(other, { ...wanted, vcpus: 2 });
    const failed = seen(h.lifecycle, other, 'failed');
    h.machine.vms.get(join(h.vmsDir, other))?.end('gone');
    await failed;
  }
  await expect.poll(() => h.machine.vms.size).toBe(1);
  await h.lifecycle.create(`sb${'g'.repeat(18)}`, request);
  expect(standing(h.machine)).toBe(1);
  await h.lifecycle.create(id, wanted);
  await expect.poll(() => standing(h.machine)).toBe(1);
});

test('one that ends by itself is removed', async () => {
  await using h = await ready(1);
  const [vm] = h.machine.vms.values();
  vm?.end('out of memory');
  await expect.poll(() => h.machine.slots.size).toBe(0);
  expect(await h.lifecycle.create(id, wanted)).toMatchObject({ status: 'running' });
});

test('a host agent that is started again, or stops, leaves none of those before', async () => {
  const machine = new FakeMachine();
  {
    await using h = await host(machine, { readyGuests: 2, memoryMb });
    await expect.poll(() => standing(machine)).toBe(2);
    await h.lifecycle.create(id, wanted);
    const before = [...machine.vms].filter(([, { frozen }]) => frozen).map(([dir]) => dir);
    await h.restart();
    expect(h.lifecycle.get(id).status).toBe('running');
    await expect.poll(() => before.filter((dir) => machine.vms.has(dir))).toEqual([]);
    await expect.poll(() => standing(machine)).toBe(2);
    expect(machine.vms.size).toBe(3);
  }
  expect(standing(machine)).toBe(0);
  expect(machine.vms.size).toBe(1);
});

test('after creates of a shape that nobody keeps ready guests of that shape stand ready', async () => {
  const machine = new FakeMachine();
  await using h = await host(machine, { readyMost: 4, memoryMb });
  const names = ['b', 'c', 'd'].map((letter) => `sb${letter.repeat(18)}`);
  await Promise.all(names.map((name) => h.lifecycle.create(name, request)));
  await expect.poll(() => standing(machine)).toBe(3);
  machine.order.length = 0;
  await h.lifecycle.create(id, request);
  expect(machine.order).toEqual(['thaw']);
  expect(h.lifecycle.ready.counts).toEqual({ hits: 1, misses: 3 });
});

test.each(['resume', 'fork'] as const)('none is made while a %s is under way', async (what) => {
  const machine = new FakeMachine();
  await using h = await host(machine, { readyMost: 4, memoryMb });
  const child = { id: `sb${'b'.repeat(18)}`, access_token: 'c'.repeat(64) };
  await h.lifecycle.create(id, request);
  const gate = Promise.withResolvers<void>();
  const ways = {
    resume: async () => {
      await h.lifecycle.pause(id, 1);
      machine.bootGate = gate.promise;
      const begun = seen(h.lifecycle, id, 'resuming');
      return { begun, done: h.lifecycle.resume(id, { generation: 2, access_token: child.access_token }) };
    },
    fork: async () => {
      machine.bootGate = gate.promise;
      const begun = seen(h.lifecycle, child.id, 'creating');
      return { begun, done: h.lifecycle.fork(id, { generation: 1, children: [child] }) };
    },
  };
  const { begun, done } = await ways[what]();
  await begun;
  const { template, vcpus, memory_mb, disk_mb } = request;
  await h.lifecycle.ready.pin({ template, vcpus, memory_mb, disk_mb, count: 1 });
  // It would be in the journal at once.
  await sleep(100);
  const kinds = h.journal.list().map(({ kind }) => kind);
  gate.resolve();
  await done;
  expect(kinds).not.toContain('ready');
  await expect.poll(() => standing(machine)).toBe(1);
});

test('of several only as many go as a sandbox needs the memory of', async () => {
  await using h = await ready(3);
  // Beside it there is room for one.
  await h.lifecycle.create(id, { ...wanted, memory_mb: memoryMb - 1000 });
  expect(standing(h.machine)).toBe(1);
});
