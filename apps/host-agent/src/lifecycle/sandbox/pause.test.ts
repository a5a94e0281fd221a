/** Pause and resume, step by step: see testing.ts. */
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { DiskGone } from '../../disk/index.ts';
import { failOnce, host, id, nothingLeft, request, seen } from '../testing.ts';

const next = { generation: 2, access_token: 'b'.repeat(64) };

async function paused() {
  const h = await host();
  await h.lifecycle.create(id, request);
  await h.lifecycle.pause(id, 1);
  h.machine.order.length = 0;
  return h;
}

test('a paused sandbox holds nothing but its snapshot, and no memory is reserved for it', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  const free = (await h.lifecycle.reservations.capacity()).memory.free;
  h.machine.order.length = 0;
  const sandbox = await h.lifecycle.pause(id, 1);
  expect(sandbox).toMatchObject({ status: 'paused', generation: 1, address: null });
  expect(sandbox.timings_ms).toMatchObject({ freeze: 1, teardown: expect.any(Number) });
  expect(h.machine.order).toEqual(['find room', 'freeze', 'write', 'answer', 'monitor', 'disk', 'slot']);
  nothingLeft(h.machine, h.vmsDir);
  expect((await h.lifecycle.reservations.capacity()).memory.free).toBe(free + request.memory_mb + 64);
});

test('a resume proves itself to the guest with the token of the life before, and keeps its environment', async () => {
  await using h = await paused();
  const sandbox = await h.lifecycle.resume(id, next);
  expect(sandbox).toMatchObject({ status: 'running', generation: 2, address: '10.0.0.1' });
  expect(h.machine.told.at(-1)).toMatchObject({
    number: 3,
    accessToken: next.access_token,
    proof: request.access_token,
    env: undefined,
  });
  expect(h.machine.vms.get(join(h.vmsDir, id))?.frozen).toBe(false);
  expect(h.machine.captured.has(id)).toBe(true);
});

test('the same pause or resume again gives the same sandbox', async () => {
  await using h = await paused();
  expect(await h.lifecycle.pause(id, 1)).toMatchObject({ status: 'paused' });
  const both = await Promise.all([h.lifecycle.resume(id, next), h.lifecycle.resume(id, next)]);
  expect(both[1]).toEqual(both[0]);
  expect(h.machine.vms.size).toBe(1);
});

test('a pause of what does not run, or of another life, is refused and names the state', async () => {
  await using h = await paused();
  const refused = { code: 'sandbox_not_running', details: { id, status: 'paused' } };
  await expect(h.lifecycle.pause(id, 2)).rejects.toMatchObject(refused);
  await h.lifecycle.resume(id, next);
  await expect(h.lifecycle.pause(id, 1)).rejects.toMatchObject({ code: 'sandbox_not_running' });
  await expect(h.lifecycle.resume(id, { ...next, generation: 3 })).rejects.toMatchObject({
    code: 'sandbox_not_paused',
    details: { status: 'running' },
  });
});

test.each(['freeze', 'write', 'answer'])(
  'a pause whose %s fails thaws the guest, which runs on',
  async (step) => {
    await using h = await host();
    await h.lifecycle.create(id, request);
    h.machine.failing = step;
    await expect(h.lifecycle.pause(id, 1)).rejects.toMatchObject({ code: 'pause_failed' });
    expect(h.lifecycle.get(id)).toMatchObject({ status: 'running', generation: 1 });
    expect(h.machine.vms.get(join(h.vmsDir, id))?.frozen).toBe(false);
    const failed = seen(h.lifecycle, id, 'failed');
    h.machine.vms.get(join(h.vmsDir, id))?.end('gone');
    expect((await failed).reason).toBe('gone');
  },
);

test('a disk without room refuses the pause before the guest is stopped', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  h.machine.order.length = 0;
  h.machine.failing = 'find room';
  await expect(h.lifecycle.pause(id, 1)).rejects.toThrow('cannot find room');
  expect(h.machine.order).toEqual(['find room']);
  expect(h.lifecycle.get(id).status).toBe('running');
});

test('a disk that fills up in the middle of a pause is named, and the guest runs on', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  h.machine.failure = (message) => Object.assign(new Error(message), { code: 'ENOSPC' });
  h.machine.failing = 'write';
  await expect(h.lifecycle.pause(id, 1)).rejects.toMatchObject({
    code: 'host_disk_full',
    message: expect.stringContaining('was not paused and runs on'),
  });
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'running', generation: 1 });
});

test('a guest that ends in the middle of a pause is failed with the reason, and holds nothing', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  const gate = Promise.withResolvers<void>();
  h.machine.captureGate = gate.promise;
  const pausing = expect(h.lifecycle.pause(id, 1)).rejects.toMatchObject({ code: 'sandbox_failed' });
  await seen(h.lifecycle, id, 'pausing');
  h.machine.failing = 'thaw';
  gate.reject(new Error('no answer'));
  await pausing;
  const { status, reason } = h.lifecycle.get(id);
  expect(status).toBe('failed');
  expect(reason).toContain('no answer; cannot thaw');
  nothingLeft(h.machine, h.vmsDir);
});

test.each(['settle', 'paused'] as const)(
  'a pause that is written ends as paused, though %s fails at first',
  async (step) => {
    await using h = await host();
    await h.lifecycle.create(id, request);
    const settle = vi.spyOn(h.machine.saved, 'settle');
    if (step === 'settle') settle.mockRejectedValueOnce(new Error('cannot seal'));
    else failOnce(h.journal, step);
    expect(await h.lifecycle.pause(id, 1)).toMatchObject({ status: 'paused', generation: 1 });
    nothingLeft(h.machine, h.vmsDir);
    expect(await h.lifecycle.resume(id, next)).toMatchObject({ status: 'running' });
  },
);

test('old checkpoints that cannot be removed keep nothing from being paused, nor a host agent from finishing it', async () => {
  await using h = await host();
  vi.spyOn(h.machine.saved, 'prune').mockRejectedValue(new Error('cannot remove'));
  await h.lifecycle.create(id, request);
  expect(await h.lifecycle.pause(id, 1)).toMatchObject({ status: 'paused' });
  await h.lifecycle.resume(id, next);
  const written = Promise.withResolvers<void>();
  vi.spyOn(h.machine.saved, 'settle').mockImplementationOnce(() => {
    written.resolve();
    return new Promise(() => {});
  });
  void h.lifecycle.pause(id, 2).catch(() => {});
  await written.promise;
  await h.restart();
  await expect.poll(() => h.lifecycle.get(id)).toMatchObject({ status: 'paused', generation: 2 });
});

test('a destroy cuts a pause short that cannot be settled', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  const tried = Promise.withResolvers<void>();
  vi.spyOn(h.machine.saved, 'settle').mockImplementation(async () => {
    tried.resolve();
    throw new Error('cannot seal');
  });
  const outcome = expect(h.lifecycle.pause(id, 1)).rejects.toMatchObject({ code: 'sandbox_not_running' });
  await tried.promise;
  await h.lifecycle.destroy(id);
  await outcome;
  expect(h.lifecycle.list()).toEqual([]);
  expect(h.machine.captured.size).toBe(0);
});

test('a guest whose pause is taken back runs on, though the journal cannot be written at first', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  h.machine.failing = 'write';
  failOnce(h.journal, 'running');
  await expect(h.lifecycle.pause(id, 1)).rejects.toMatchObject({ code: 'pause_failed' });
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'running', generation: 1 });
  expect(h.machine.vms.get(join(h.vmsDir, id))?.frozen).toBe(false);
});

test('a disk that fills up in the middle of a resume is named, and the sandbox is still paused', async () => {
  await using h = await paused();
  h.machine.failure = (message) => Object.assign(new Error(message), { code: 'ENOSPC' });
  h.machine.failing = 'thaw';
  await expect(h.lifecycle.resume(id, next)).rejects.toMatchObject({ code: 'host_disk_full' });
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'paused', generation: 1 });
});

test('a sandbox whose disk is lost while it runs is failed with the reason, and holds nothing', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  const failed = seen(h.lifecycle, id, 'failed');
  h.machine.disks.delete(join(h.vmsDir, id));
  expect((await failed).reason).toMatch(/^Its disk was gone \(nothing is in .*\)\.$/);
  await vi.waitFor(() => nothingLeft(h.machine, h.vmsDir), 30_000);
});

test('a resume that fails leaves a paused sandbox, which can be resumed later', async () => {
  await using h = await paused();
  h.machine.failing = 'thaw';
  await expect(h.lifecycle.resume(id, next)).rejects.toMatchObject({ code: 'resume_failed' });
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'paused', generation: 1, address: null });
  nothingLeft(h.machine, h.vmsDir);
  expect(await h.lifecycle.resume(id, next)).toMatchObject({ status: 'running', generation: 2 });
});

test('a resume that does not fit leaves a paused sandbox', async () => {
  await using h = await paused();
  const others = ['b', 'c', 'd', 'e', 'f'].map((letter) => `sb${letter.repeat(18)}`);
  for (const other of others) await h.lifecycle.create(other, request);
  await expect(h.lifecycle.resume(id, next)).rejects.toMatchObject({ code: 'capacity_exhausted' });
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'paused', generation: 1 });
});

test('a destroy cuts a pause and a resume short, wherever they stand', async () => {
  for (const what of ['pause', 'resume'] as const) {
    await using h = await paused();
    if (what === 'pause') await h.lifecycle.resume(id, next);
    const gate = Promise.withResolvers<void>();
    h.machine[what === 'pause' ? 'captureGate' : 'bootGate'] = gate.promise;
    const cut = expect(what === 'pause' ? h.lifecycle.pause(id, 2) : h.lifecycle.resume(id, next));
    const outcome = cut.rejects.toMatchObject({ code: 'sandbox_not_running' });
    await seen(h.lifecycle, id, what === 'pause' ? 'pausing' : 'resuming');
    const destroyed = h.lifecycle.destroy(id);
    gate.resolve();
    await destroyed;
    await outcome;
    nothingLeft(h.machine, h.vmsDir);
    expect(h.machine.captured.size).toBe(0);
  }
});

test('a destroyed sandbox takes its snapshot with it', async () => {
  await using h = await paused();
  await h.lifecycle.destroy(id);
  expect(h.machine.captured.size).toBe(0);
});

test('a host agent starts though a guest does not run on, which is failed with the reason and holds nothing', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  h.machine.captureGate = new Promise(() => {});
  void h.lifecycle.pause(id, 1).catch(() => {});
  await seen(h.lifecycle, id, 'pausing');
  h.machine.failing = 'thaw';
  await h.restart();
  const { status, reason } = h.lifecycle.get(id);
  expect(status).toBe('failed');
  expect(reason).toContain('cannot thaw');
  await vi.waitFor(() => nothingLeft(h.machine, h.vmsDir), 30_000);
});

test('a guest whose disk is gone is not let go again: it is failed, with nothing of the pause left', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  vi.spyOn(h.machine.saved, 'capture').mockRejectedValueOnce(new DiskGone('the kernel has given it up'));
  await expect(h.lifecycle.pause(id, 1)).rejects.toMatchObject({
    ...{
      code: 'sandbox_failed',
      details: { id, reason: expect.stringContaining('the kernel has given it up') },
    },
  });
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'failed' });
  nothingLeft(h.machine, h.vmsDir);
});

test('whoever waits for a pause that cannot give back what the guest held is told so, and it goes on', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  h.machine.killFails = 3;
  const paused = seen(h.lifecycle, id, 'paused');
  await expect(h.lifecycle.pause(id, 1)).rejects.toMatchObject({
    code: 'cleanup_delayed',
    message: `What sandbox ${id} held cannot be given back yet. cannot kill`,
  });
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'pausing' });
  await paused;
  nothingLeft(h.machine, h.vmsDir);
});

test('a host agent that is started again lets run on what was not yet written', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  h.machine.captureGate = new Promise(() => {});
  void h.lifecycle.pause(id, 1).catch(() => {});
  await seen(h.lifecycle, id, 'pausing');
  await h.restart();
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'running', generation: 1 });
  expect(h.machine.vms.get(join(h.vmsDir, id))?.frozen).toBe(false);
});

test('a host agent that is started again finishes a pause that was written', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  h.machine.captureGate = new Promise(() => {});
  void h.lifecycle.pause(id, 1).catch(() => {});
  await seen(h.lifecycle, id, 'pausing');
  h.machine.captured.set(id, { checkpoint: 1, identity: { accessToken: request.access_token, number: 1 } });
  await h.restart();
  await expect.poll(() => h.lifecycle.get(id)).toMatchObject({ status: 'paused', generation: 1 });
  nothingLeft(h.machine, h.vmsDir);
  expect(await h.lifecycle.resume(id, next)).toMatchObject({ status: 'running' });
});

test('a host agent that is started again undoes a resume that had not ended', async () => {
  await using h = await paused();
  h.machine.readyGate = new Promise(() => {});
  void h.lifecycle.resume(id, next).catch(() => {});
  await expect.poll(() => h.machine.vms.size).toBe(1);
  await h.restart();
  await expect.poll(() => h.lifecycle.get(id)).toMatchObject({ status: 'paused', generation: 1 });
  nothingLeft(h.machine, h.vmsDir);
});
