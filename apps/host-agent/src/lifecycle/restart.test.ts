/** A host agent that is started again, step by step: see testing.ts. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { FakeMachine, host, id, nothingLeft, request, seen } from './testing.ts';

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
  await vi.waitFor(() => nothingLeft(h.machine, h.vmsDir), 30_000);
});

test('a sandbox whose disk went while no host agent ran is failed, and what it held is given back', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  h.machine.disks.clear();
  await h.restart();
  expect(h.lifecycle.get(id)).toMatchObject({
    status: 'failed',
    reason: expect.stringContaining('Its disk was gone'),
  });
  await vi.waitFor(() => nothingLeft(h.machine, h.vmsDir), 30_000);
});

test('a host agent asks again for a disk of which it cannot be said whether it is there', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  vi.spyOn(h.machine.disk, 'adopt').mockRejectedValueOnce(new Error('too many open files'));
  await h.restart();
  await h.lifecycle.pause(id, 1);
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'paused' });
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
  await vi.waitFor(() => nothingLeft(h.machine, h.vmsDir), 30_000);
});

test('a host agent starts beside machines that cannot be ended, and goes on until they are', async () => {
  const machine = new FakeMachine();
  await using h = await host(machine, { readyGuests: 1, memoryMb: 3500 });
  const states = ['failed', 'destroying', 'pausing', 'resuming'] as const;
  const ids = states.map((_, n) => `sb${String(n).repeat(18)}`);
  await expect.poll(() => [...machine.vms.values()].some(({ frozen }) => frozen)).toBe(true);
  for (const one of ids) await h.lifecycle.create(one, request);
  await h.lifecycle.pause(ids[3] ?? '', 1);
  machine.killFails = Number.POSITIVE_INFINITY;
  const asked = [
    () => h.lifecycle.destroy(ids[1] ?? ''),
    () => h.lifecycle.pause(ids[2] ?? '', 1),
    () => h.lifecycle.resume(ids[3] ?? '', { generation: 2, access_token: 'b'.repeat(64) }),
  ];
  const inState = states.map((status, n) => seen(h.lifecycle, ids[n] ?? '', status));
  machine.vms.get(join(h.vmsDir, ids[0] ?? ''))?.end('gone');
  machine.readyGate = new Promise(() => {});
  for (const ask of asked) void ask().catch(() => {});
  await Promise.all(inState);
  await expect.poll(() => machine.captured.get(ids[2] ?? '')?.checkpoint).toBe(1);
  machine.readyGate = Promise.resolve();
  await h.restart();
  expect(ids.map((one) => h.lifecycle.get(one).status)).toEqual(states);
  expect(await h.lifecycle.create(id, request)).toMatchObject({ status: 'running' });
  machine.killFails = 0;
  const ended = () => ids.flatMap((one) => h.lifecycle.list().find((sandbox) => sandbox.id === one) ?? []);
  await expect
    .poll(() => ended().map(({ status, address }) => [status, address]))
    .toEqual([
      ['failed', null],
      ['paused', null],
      ['paused', null],
    ]);
});

test('what cannot be found out of one sandbox at the start is found out later', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  vi.spyOn(h.machine.monitor, 'adopt').mockRejectedValueOnce(new Error('cannot read'));
  await h.restart();
  const failed = seen(h.lifecycle, id, 'failed');
  h.machine.vms.get(join(h.vmsDir, id))?.end('gone');
  expect((await failed).reason).toBe('gone');
  await vi.waitFor(() => nothingLeft(h.machine, h.vmsDir), 30_000);
});

test('a directory that no journal entry owns is removed at the start', async () => {
  await using h = await host();
  await mkdir(join(h.vmsDir, id));
  await h.restart();
  nothingLeft(h.machine, h.vmsDir);
});

test('a boot snapshot that a crash cut off is removed at the start', async () => {
  await using h = await host();
  h.machine.isBooted = false;
  h.machine.readyGate = new Promise(() => {});
  void h.lifecycle.create(id, request).catch(() => {});
  await expect.poll(() => h.machine.vms.size).toBe(1);
  await h.restart();
  await vi.waitFor(() => nothingLeft(h.machine, h.vmsDir), 30_000);
  expect(h.lifecycle.list().map((one) => [one.id, one.status])).toEqual([[id, 'failed']]);
});
