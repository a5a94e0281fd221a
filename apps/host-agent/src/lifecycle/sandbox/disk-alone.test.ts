/** Pauses that keep the disk alone, and lives that begin from it: see testing.ts. */
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { host, id, nothingLeft, request } from '../testing.ts';

const next = { generation: 2, access_token: 'b'.repeat(64) };
const env = { NAME: 'value' };

async function running() {
  const h = await host();
  await h.lifecycle.create(id, { ...request, env });
  h.machine.order.length = 0;
  return h;
}

async function paused() {
  const h = await running();
  await h.lifecycle.pause(id, 1, false);
  h.machine.order.length = 0;
  return h;
}

test('a pause without memory has the guest write its disk out, and nothing of it is left but that', async () => {
  await using h = await running();
  const sandbox = await h.lifecycle.pause(id, 1, false);
  expect(sandbox).toMatchObject({ status: 'paused', generation: 1, address: null });
  expect(sandbox.timings_ms).toMatchObject({ hold: expect.any(Number), teardown: expect.any(Number) });
  expect(h.machine.order).toEqual([
    ...['find room', 'hold the disk', 'freeze', 'write', 'answer'],
    ...['monitor', 'disk', 'slot'],
  ]);
  expect(h.machine.captured.get(id)).toMatchObject({ memory: false });
  nothingLeft(h.machine, h.vmsDir);
});

test('its next life boots a guest, which is told everything anew and proves nothing', async () => {
  await using h = await paused();
  const sandbox = await h.lifecycle.resume(id, next);
  expect(sandbox).toMatchObject({ status: 'running', generation: 2 });
  expect(sandbox.timings_ms).toHaveProperty('agent');
  expect(h.machine.booted).toBe(1);
  expect(h.machine.order).not.toContain('thaw');
  expect(h.machine.told.at(-1)).toMatchObject({
    ...{ number: 3, accessToken: next.access_token, proof: undefined, env },
  });
  const { kernel, initramfs, rebooted } = h.journal.get(id) ?? {};
  expect({ kernel, initramfs, rebooted }).toEqual({
    ...{ kernel: 'b'.repeat(64), initramfs: 'c'.repeat(64), rebooted: null },
  });
});

test('the environment is known over any number of lives, and a restart of the host agent', async () => {
  await using h = await running();
  await h.lifecycle.pause(id, 1);
  await h.lifecycle.resume(id, next);
  expect(h.machine.told.at(-1)?.env).toBeUndefined();
  await h.restart();
  await h.lifecycle.pause(id, 2, false);
  await h.lifecycle.resume(id, { ...next, generation: 3 });
  expect(h.machine.told.at(-1)).toMatchObject({ env, number: 4 });
});

test('a state with memory is booted from its disk when that is asked for, and is no parent of the memory then', async () => {
  await using h = await running();
  await h.lifecycle.pause(id, 1);
  await h.lifecycle.resume(id, { ...next, memory: false });
  expect(h.machine.booted).toBe(1);
  expect(h.machine.told.at(-1)).toMatchObject({ proof: undefined, env });
  expect(h.journal.get(id)).toMatchObject({ last_checkpoint: 1, rebooted: 1 });
  await h.lifecycle.pause(id, 2);
  await h.lifecycle.resume(id, { ...next, generation: 3 });
  expect(h.machine.booted).toBe(1);
  expect(h.journal.get(id)).toMatchObject({ last_checkpoint: 2, rebooted: null });
});

test('a sandbox that goes on from a checkpoint runs the kernel of that one, whatever was booted after it', async () => {
  await using h = await running();
  await h.lifecycle.pause(id, 1);
  const booted = { kernel: 'd'.repeat(64), initramfs: 'e'.repeat(64) };
  h.machine.bootedOf.set(id, booted);
  await h.lifecycle.resume(id, { ...next, memory: false });
  expect(h.journal.get(id)).toMatchObject({ kernel: 'b'.repeat(64), initramfs: 'c'.repeat(64) });
  await h.lifecycle.pause(id, 2);
  await h.lifecycle.resume(id, { ...next, generation: 3 });
  expect(h.journal.get(id)).toMatchObject(booted);
});

test('a guest that cannot write its disk out runs on, and is never stopped', async () => {
  await using h = await running();
  h.machine.failing = 'hold the disk';
  await expect(h.lifecycle.pause(id, 1, false)).rejects.toMatchObject({
    code: 'pause_failed',
    message: `Sandbox ${id} was not paused and runs on. cannot hold the disk`,
  });
  expect(h.machine.order).not.toContain('freeze');
  expect(h.machine.order.at(-1)).toBe('let go of the disk');
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'running', generation: 1 });
});

test('a guest that waits for room on the host is waited for by nobody, and runs on', async () => {
  await using h = await running();
  h.machine.diskGate = new Promise(() => {});
  h.machine.lacksRoom = Promise.resolve();
  await expect(h.lifecycle.pause(id, 1, false)).rejects.toMatchObject({ code: 'host_disk_full' });
  expect(h.machine.order).not.toContain('freeze');
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'running', generation: 1 });
});

test.each(['write', 'let go of the disk'])(
  'a pause whose disk cannot be kept lets the guest go on writing, though %s fails',
  async (step) => {
    await using h = await running();
    h.machine.failing = step;
    if (step !== 'write') vi.spyOn(h.machine.saved, 'capture').mockRejectedValueOnce(new Error('no disk'));
    await expect(h.lifecycle.pause(id, 1, false)).rejects.toMatchObject({ code: 'pause_failed' });
    expect(h.machine.order.at(-1)).toBe('let go of the disk');
    expect(h.machine.vms.get(join(h.vmsDir, id))?.frozen).toBe(false);
    expect(h.lifecycle.get(id)).toMatchObject({ status: 'running' });
  },
);

test('a guest that ends while it writes its disk out is failed', async () => {
  await using h = await running();
  h.machine.failing = 'thaw';
  vi.spyOn(h.machine, 'tell').mockImplementation(() => {
    h.machine.vms.get(join(h.vmsDir, id))?.end('it burned');
    throw new Error('no answer');
  });
  await expect(h.lifecycle.pause(id, 1, false)).rejects.toMatchObject({ code: 'sandbox_failed' });
  expect(h.lifecycle.get(id).status).toBe('failed');
  nothingLeft(h.machine, h.vmsDir);
});

test('a boot that fails leaves the sandbox paused, and the next one succeeds', async () => {
  await using h = await paused();
  vi.spyOn(h.machine.monitor, 'boot').mockRejectedValueOnce(new Error('no kernel'));
  await expect(h.lifecycle.resume(id, next)).rejects.toMatchObject({ code: 'resume_failed' });
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'paused', generation: 1 });
  nothingLeft(h.machine, h.vmsDir);
  expect(await h.lifecycle.resume(id, next)).toMatchObject({ status: 'running', generation: 2 });
});

test('a destroy cuts the boot short', async () => {
  await using h = await paused();
  h.machine.readyGate = new Promise(() => {});
  const cut = expect(h.lifecycle.resume(id, next)).rejects.toMatchObject({ code: 'sandbox_not_running' });
  await expect.poll(() => h.machine.vms.size).toBe(1);
  await h.lifecycle.destroy(id);
  await cut;
  nothingLeft(h.machine, h.vmsDir);
});

test('a host agent that is started again finishes such a pause, or lets the guest run on', async () => {
  await using h = await running();
  h.machine.captureGate = new Promise(() => {});
  void h.lifecycle.pause(id, 1, false).catch(() => {});
  // A capture that goes on while the next process is there would not be one of a process that has ended.
  await expect.poll(() => h.machine.vms.get(join(h.vmsDir, id))?.frozen).toBe(true);
  await h.restart();
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'running' });
  h.machine.captureGate = Promise.resolve();
  const settle = vi.spyOn(h.machine.saved, 'settle').mockReturnValueOnce(new Promise(() => {}));
  void h.lifecycle.pause(id, 1, false).catch(() => {});
  await expect.poll(() => settle.mock.calls.length).toBe(1);
  expect(h.machine.captured.get(id)).toMatchObject({ memory: false });
  await h.restart();
  await expect.poll(() => h.lifecycle.get(id)).toMatchObject({ status: 'paused' });
  expect(await h.lifecycle.resume(id, next)).toMatchObject({ status: 'running' });
  expect(h.machine.booted).toBe(1);
});

test('children of a sandbox without memory boot too, each as itself', async () => {
  await using h = await paused();
  const child = `sb${'c'.repeat(18)}`;
  vi.spyOn(h.machine.saved, 'linkStart').mockImplementation(async (of) => {
    const captured = h.machine.captured.get(id);
    if (captured) h.machine.captured.set(of, { ...captured, checkpoint: 0 });
    return h.machine.saved.open(of, 0);
  });
  const children = [{ id: child, access_token: 'd'.repeat(64) }];
  const { results } = await h.lifecycle.fork(id, { generation: 1, children });
  expect(results).toMatchObject([{ sandbox: { id: child, status: 'running' } }]);
  expect(h.machine.booted).toBe(1);
  expect(h.machine.told.at(-1)).toMatchObject({ sandboxId: child, proof: undefined, env });
});

test('a snapshot of the disk alone has a guest that runs write it out first, and keeps it running', async () => {
  await using h = await running();
  await h.lifecycle.snapshots
    .create({ name: 'disk', sandbox_id: id, generation: 1, overwrite: false, memory: false })
    .catch(() => {});
  const steps = ['write out', 'freeze', 'write', 'thaw', 'answer', 'copy'];
  expect(h.machine.order.filter((step) => steps.includes(step))).toEqual(steps);
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'running' });
});
