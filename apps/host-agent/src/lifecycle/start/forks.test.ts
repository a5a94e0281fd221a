/** Copies of a sandbox, running or paused, step by step: see testing.ts. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { failOnce, host, id, request, seen } from '../testing.ts';

const child = (letter: string) => ({ id: `sb${letter.repeat(18)}`, access_token: letter.repeat(64) });
const children = [child('b'), child('c')];

async function running() {
  const h = await host();
  await h.lifecycle.create(id, request);
  h.machine.order.length = 0;
  return h;
}

async function leftOfCopies(h: Awaited<ReturnType<typeof host>>): Promise<string[]> {
  return readdir(join(h.vmsDir, '..', 'snapshots'));
}

test('a fork freezes its source once, whatever the count, and lets it run on before children start', async () => {
  await using h = await running();
  const { results, timings_ms } = await h.lifecycle.fork(id, { generation: 1, children });
  expect(results.map((one) => 'sandbox' in one && one.sandbox)).toMatchObject(
    children.map((one) => ({ id: one.id, status: 'running', generation: 1, template: 'base' })),
  );
  expect(h.machine.order.slice(0, 6)).toEqual(['find room', 'freeze', 'write', 'thaw', 'answer', 'copy']);
  expect(h.machine.order.slice(6).toSorted()).toEqual(['begin', 'begin', 'open', 'open', 'thaw', 'thaw']);
  expect(timings_ms).toMatchObject({ freeze: 1, copied: expect.any(Number), total: expect.any(Number) });
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'running', generation: 1 });
  expect(await leftOfCopies(h)).toEqual([]);
});

test('each child is told a token of its own, and proves itself with that of the guest it was copied from', async () => {
  await using h = await running();
  await h.lifecycle.fork(id, { generation: 1, children });
  const told = h.machine.told.slice(-2).toSorted((a, b) => (a.sandboxId < b.sandboxId ? -1 : 1));
  expect(told).toMatchObject(
    children.map((one) => ({ sandboxId: one.id, accessToken: one.access_token, env: undefined })),
  );
});

test('a fork of a paused sandbox touches no guest, and leaves it paused', async () => {
  await using h = await running();
  await h.lifecycle.pause(id, 1);
  h.machine.order.length = 0;
  await h.lifecycle.fork(id, { generation: 1, children: [child('b')] });
  expect(h.machine.order).toEqual(['open', 'find room', 'copy', 'begin', 'open', 'thaw']);
  expect(h.lifecycle.get(id).status).toBe('paused');
});

test('children for which there is no room are errors of their own', async () => {
  await using h = await running();
  const many = ['b', 'c', 'd', 'e', 'f', 'g'].map(child);
  const { results } = await h.lifecycle.fork(id, { generation: 1, children: many });
  expect(results.filter((one) => 'sandbox' in one)).toHaveLength(4);
  expect(results.filter((one) => 'error' in one)).toMatchObject([
    { id: expect.any(String), error: { code: 'capacity_exhausted' } },
    { error: { code: 'capacity_exhausted' } },
  ]);
});

test('a child that is there already stops the fork before anything is made', async () => {
  await using h = await running();
  await expect(
    h.lifecycle.fork(id, { generation: 1, children: [{ ...child('b'), id }] }),
  ).rejects.toMatchObject({ code: 'sandbox_exists' });
  expect(h.machine.order).toEqual([]);
});

test.each(['freeze', 'write', 'copy'])(
  'a fork or snapshot whose %s fails leaves the source as before, and nothing else',
  async (step) => {
    await using h = await running();
    for (const attempt of [
      () => h.lifecycle.fork(id, { generation: 1, children }),
      () => h.lifecycle.snapshots.create({ name: 'kept', sandbox_id: id, generation: 1, overwrite: false }),
    ]) {
      h.machine.failing = step;
      await expect(attempt()).rejects.toMatchObject({
        code: expect.stringMatching(/^(fork|snapshot)_failed$/),
      });
      expect(h.lifecycle.get(id)).toMatchObject({ status: 'running', generation: 1 });
      expect(h.machine.vms.get(join(h.vmsDir, id))?.frozen).toBe(false);
    }
    expect(h.lifecycle.list()).toHaveLength(1);
    expect(await leftOfCopies(h)).toEqual([]);
  },
);

test('what neither runs nor is paused, or is in another life, cannot be copied', async () => {
  await using h = await running();
  await expect(h.lifecycle.fork(id, { generation: 2, children })).rejects.toMatchObject({
    code: 'sandbox_not_running',
    details: { status: 'running' },
  });
  const failed = seen(h.lifecycle, id, 'failed');
  h.machine.vms.get(join(h.vmsDir, id))?.end('gone');
  await failed;
  await expect(h.lifecycle.fork(id, { generation: 1, children })).rejects.toMatchObject({
    code: 'sandbox_not_running',
    details: { status: 'failed' },
  });
});

test('a disk without room refuses the copy before the guest is stopped', async () => {
  await using h = await running();
  h.machine.failing = 'find room';
  await expect(h.lifecycle.fork(id, { generation: 1, children })).rejects.toThrow('cannot find room');
  expect(h.machine.order).toEqual(['find room']);
});

test('a disk without room refuses the copy of a paused sandbox before anything is written', async () => {
  await using h = await running();
  await h.lifecycle.pause(id, 1);
  h.machine.order.length = 0;
  h.machine.failing = 'find room';
  await expect(h.lifecycle.fork(id, { generation: 1, children })).rejects.toThrow('cannot find room');
  expect(h.machine.order).toEqual(['open', 'find room']);
  expect(await leftOfCopies(h)).toEqual([]);
});

test.each(['running', 'paused'])(
  'a disk that fills up in the copy of a %s sandbox is named',
  async (state) => {
    await using h = await running();
    if (state === 'paused') await h.lifecycle.pause(id, 1);
    h.machine.failure = (message) => Object.assign(new Error(message), { code: 'ENOSPC' });
    h.machine.failing = 'copy';
    const taken = h.lifecycle.snapshots.create({
      name: 'a',
      sandbox_id: id,
      generation: 1,
      overwrite: false,
    });
    await expect(taken).rejects.toMatchObject({ code: 'host_disk_full', status: 507 });
    expect(h.lifecycle.get(id)).toMatchObject({ status: state, generation: 1 });
    expect(await leftOfCopies(h)).toEqual([]);
  },
);

test('a destroy cuts a fork short, and no child stays', async () => {
  await using h = await running();
  const gate = Promise.withResolvers<void>();
  h.machine.captureGate = gate.promise;
  const forked = h.lifecycle.fork(id, { generation: 1, children });
  const outcome = expect(forked).rejects.toMatchObject({ code: 'sandbox_not_running' });
  await seen(h.lifecycle, id, 'forking');
  const destroyed = h.lifecycle.destroy(id);
  gate.resolve();
  await Promise.all([destroyed, outcome]);
  expect(h.lifecycle.list()).toEqual([]);
  expect(await leftOfCopies(h)).toEqual([]);
});

test.each(['snapshotting', 'forking'] as const)(
  'a host agent that is started again lets a guest run on that was %s',
  async (state) => {
    await using h = await running();
    h.machine.captureGate = new Promise(() => {});
    const name = 'kept';
    const copy =
      state === 'forking'
        ? h.lifecycle.fork(id, { generation: 1, children })
        : h.lifecycle.snapshots.create({ name, sandbox_id: id, generation: 1, overwrite: false });
    void copy.catch(() => {});
    await seen(h.lifecycle, id, state);
    await h.restart();
    expect(h.lifecycle.get(id)).toMatchObject({ status: 'running', generation: 1 });
    expect(h.machine.vms.get(join(h.vmsDir, id))?.frozen).toBe(false);
    expect(h.lifecycle.list()).toHaveLength(1);
  },
);

test.each(['its checkpoint', 'the journal'])(
  'a fork whose source has run on ends well, though %s cannot be written at first',
  async (what) => {
    await using h = await running();
    const drop = vi.spyOn(h.machine.saved, 'drop');
    if (what === 'its checkpoint') drop.mockRejectedValueOnce(new Error('cannot remove'));
    else failOnce(h.journal, 'running');
    const { results } = await h.lifecycle.fork(id, { generation: 1, children });
    expect(results.every((one) => 'sandbox' in one)).toBe(true);
    expect(h.lifecycle.get(id)).toMatchObject({ status: 'running', generation: 1 });
  },
);

test('a guest that ends while its fork cannot be settled is failed with its reason', async () => {
  await using h = await running();
  vi.spyOn(h.machine.saved, 'drop').mockImplementationOnce(async () => {
    h.machine.vms.get(join(h.vmsDir, id))?.end('gone');
    throw new Error('cannot remove');
  });
  const failed = seen(h.lifecycle, id, 'failed');
  await h.lifecycle.fork(id, { generation: 1, children });
  expect((await failed).reason).toBe('gone');
});

test('old checkpoints that cannot be removed keep no copy from being taken', async () => {
  await using h = await running();
  const prune = vi.spyOn(h.machine.saved, 'prune').mockRejectedValue(new Error('cannot remove'));
  const taken = h.lifecycle.snapshots.create({ name: 'a', sandbox_id: id, generation: 1, overwrite: false });
  // The fake writes no files, so there is none to be given the name.
  await expect(taken).rejects.toMatchObject({ code: 'ENOENT', syscall: 'rename' });
  expect(prune).toHaveBeenCalled();
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'running', generation: 1 });
});

test('a host agent that is started again finishes a copy that was written, though its checkpoint goes late', async () => {
  await using h = await running();
  const dropping = Promise.withResolvers<void>();
  vi.spyOn(h.machine.saved, 'drop')
    .mockImplementationOnce(() => {
      dropping.resolve();
      return new Promise(() => {});
    })
    .mockRejectedValueOnce(new Error('cannot remove'));
  void h.lifecycle.fork(id, { generation: 1, children }).catch(() => {});
  await dropping.promise;
  await h.restart();
  expect(h.lifecycle.get(id).status).toBe('forking');
  await expect.poll(() => h.lifecycle.get(id).status).toBe('running');
  const failed = seen(h.lifecycle, id, 'failed');
  h.machine.vms.get(join(h.vmsDir, id))?.end('gone');
  expect((await failed).reason).toBe('gone');
});

test('an older checkpoint that is not kept is refused', async () => {
  await using h = await running();
  await h.lifecycle.pause(id, 1);
  h.machine.failing = 'open';
  await expect(h.lifecycle.fork(id, { generation: 1, checkpoint: 7, children })).rejects.toThrow(
    'cannot open',
  );
  expect(h.machine.order.at(-1)).toBe('open');
  expect(h.lifecycle.list()).toHaveLength(1);
});
