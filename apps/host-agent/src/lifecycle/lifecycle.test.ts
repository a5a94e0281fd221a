import { join } from 'node:path';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { type HostSandbox, PerchError } from '@perch/protocol';
import { expect, test, vi } from 'vitest';
import { failOnce, host, id, nothingLeft, request, seen } from './testing.ts';

test('teardown goes monitor, disk, slot', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  await h.lifecycle.destroy(id);
  expect(h.machine.order.slice(-3)).toEqual(['monitor', 'disk', 'slot']);
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

test("nobody is told any more who a guest is that has ended: its address becomes another guest's", async () => {
  await using h = await host();
  const gate = Promise.withResolvers<void>();
  h.machine.readyGate = gate.promise;
  const creating = expect(h.lifecycle.create(id, request)).rejects.toMatchObject({ code: 'sandbox_failed' });
  await expect.poll(() => h.machine.vms.size).toBe(1);
  h.machine.vms.get(join(h.vmsDir, id))?.end('gone');
  await creating;
  gate.resolve();
  await sleep(10);
  expect(h.machine.told).toEqual([]);
});

test('a teardown step that fails is tried again, and what depends on it waits', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  h.machine.killFails = 2;
  await h.lifecycle.destroy(id);
  expect(h.machine.order.slice(-3)).toEqual(['monitor', 'disk', 'slot']);
  nothingLeft(h.machine, h.vmsDir);
});

test('a teardown step that fails skips no other, and is tried again alone', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  vi.spyOn(h.machine.disk, 'remove').mockRejectedValueOnce(new Error('cannot remove'));
  await h.lifecycle.destroy(id);
  expect(h.machine.order.slice(-3)).toEqual(['monitor', 'slot', 'disk']);
  nothingLeft(h.machine, h.vmsDir);
});

test('whoever waits for a destroy that is tried for long is told what is not removed, and it goes on', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  const removal = vi.spyOn(h.machine.disk, 'remove');
  for (let failure = 0; failure < 3; failure++)
    removal.mockRejectedValueOnce(new Error('The device is still open.'));
  await expect(h.lifecycle.destroy(id)).rejects.toMatchObject({
    code: 'cleanup_delayed',
    details: { id, reason: 'The device is still open.' },
  });
  await h.lifecycle.destroy(id);
  nothingLeft(h.machine, h.vmsDir);
});

test.each(['destroying', 'destroyed', 'its snapshots'] as const)(
  'a destroy that fails at %s is tried again as a whole, also for those who join it',
  async (step) => {
    await using h = await host();
    await h.lifecycle.create(id, request);
    if (step !== 'its snapshots') failOnce(h.journal, step);
    const removal = vi.spyOn(h.machine.saved, 'removeAll');
    if (step === 'its snapshots') removal.mockRejectedValueOnce(new Error('cannot remove'));
    await Promise.all([h.lifecycle.destroy(id), h.lifecycle.destroy(id)]);
    expect(h.lifecycle.list()).toEqual([]);
    expect(h.machine.captured.size).toBe(0);
    nothingLeft(h.machine, h.vmsDir);
  },
);

test('a host agent that stops waits for no destroy that fails, and nobody waits for it any more', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  const tried = Promise.withResolvers<void>();
  vi.spyOn(h.machine.saved, 'removeAll').mockImplementation(async () => {
    tried.resolve();
    throw new Error('cannot remove');
  });
  const first = expect(h.lifecycle.destroy(id)).rejects.toThrow('cannot remove');
  await tried.promise;
  const second = expect(h.lifecycle.destroy(id)).rejects.toThrow('cannot remove');
  await h.lifecycle.stop();
  await Promise.all([first, second]);
  await expect(h.lifecycle.destroy(id)).rejects.toThrow('lets go');
});

test('a destroy of what was destroyed meanwhile is done', async () => {
  await using h = await host();
  const keeping = Promise.withResolvers<void>();
  const kept = Promise.withResolvers<void>();
  let booted: Promise<void> | undefined;
  const { use } = h.machine.bootSnapshots;
  h.machine.isBooted = false;
  h.machine.bootSnapshots.use = (shape, boot, link, signal) => {
    const held: typeof boot = (wanted) => {
      booted = boot(wanted, () => {
        keeping.resolve();
        return kept.promise;
      });
      return booted;
    };
    return use(shape, held, link, signal);
  };
  const creating = expect(h.lifecycle.create(id, request)).rejects.toMatchObject({
    code: 'sandbox_not_running',
  });
  await keeping.promise;
  await h.lifecycle.destroyAll();
  await creating;
  kept.resolve();
  await booted;
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

test('what there is too little of for one more is told by the same sums that refuse it', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  const free = (await h.lifecycle.reservations.capacity()).memory.free;
  const overhead = 64;
  const fits = { memory_mb: free - overhead, disk_mb: 64 };
  expect(await h.lifecycle.reservations.lacks(fits)).toEqual([]);
  expect(await h.lifecycle.reservations.lacks({ ...fits, memory_mb: fits.memory_mb + 1 })).toEqual([
    'memory',
  ]);
  expect(await h.lifecycle.reservations.lacks({ memory_mb: 128, disk_mb: 10 ** 9 })).toEqual(['disk']);
});

test('a VM that ends is failed also when the journal cannot be written at first', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  failOnce(h.journal, 'failed');
  const failed = seen(h.lifecycle, id, 'failed');
  h.machine.vms.get(join(h.vmsDir, id))?.end('gone');
  expect((await failed).reason).toBe('gone');
  await vi.waitFor(() => nothingLeft(h.machine, h.vmsDir), 30_000);
});

test('a create that fails is failed also when the journal cannot be written at first', async () => {
  await using h = await host();
  h.machine.failing = 'begin';
  failOnce(h.journal, 'failed');
  await expect(h.lifecycle.create(id, request)).rejects.toMatchObject({ code: 'sandbox_failed' });
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'failed', reason: 'cannot begin' });
});

test('the first of a shape boots a guest that nobody sees, and goes on from its snapshot', async () => {
  await using h = await host();
  h.machine.isBooted = false;
  const told: HostSandbox[] = [];
  h.lifecycle.watch((sandbox) => told.push(sandbox));
  const sandbox = await h.lifecycle.create(id, request);
  expect(sandbox.timings_ms).toHaveProperty('template');
  // Its first commands are in its memory before that is kept.
  const ofBoot = ['warm up', 'freeze', 'keep'];
  expect(h.machine.order.filter((step) => ofBoot.includes(step))).toEqual(ofBoot);
  expect(new Set(told.map((one) => one.id))).toEqual(new Set([id]));
  expect(h.lifecycle.list()).toHaveLength(1);
  expect([...h.machine.vms.keys()]).toEqual([join(h.vmsDir, id)]);
  // The guest of the boot snapshot has an identity of its own; the sandbox's comes after that.
  expect(h.machine.told.map(({ sandboxId, number }) => [sandboxId === id, number])).toEqual([
    [false, 1],
    [true, 2],
  ]);
  expect(h.machine.told.at(-1)).toMatchObject({ env: request.env, proof: 'boot' });
});

test('a boot snapshot that cannot be made fails the sandbox that waits for it, and leaves nothing', async () => {
  await using h = await host();
  h.machine.isBooted = false;
  h.machine.failing = 'freeze';
  await expect(h.lifecycle.create(id, request)).rejects.toMatchObject({ code: 'sandbox_failed' });
  expect(h.lifecycle.get(id)).toMatchObject({ status: 'failed' });
  nothingLeft(h.machine, h.vmsDir);
});

test('a create without room on the disk is told so, whether it makes a boot snapshot or starts from one', async () => {
  await using h = await host();
  h.machine.isBooted = false;
  h.machine.failing = 'find room';
  const room = { resource: 'disk', requested: 2, available: 1 } as const;
  h.machine.failure = (message) => new PerchError('capacity_exhausted', message, room);
  await expect(h.lifecycle.create(id, request)).rejects.toMatchObject({
    ...{ code: 'capacity_exhausted', details: room },
    message: expect.stringContaining('No guest of this shape could be prepared'),
  });
  h.machine.failure = (message) => Object.assign(new Error(message), { code: 'ENOSPC' });
  for (const [step, isBooted] of [
    ['write', false],
    ['keep', false],
    ['begin', true],
  ] as const) {
    await h.lifecycle.destroy(id);
    Object.assign(h.machine, { failing: step, isBooted });
    await expect(h.lifecycle.create(id, request)).rejects.toMatchObject({ code: 'host_disk_full' });
  }
  nothingLeft(h.machine, h.vmsDir);
});

test('a destroy does not wait for the boot snapshot of its sandbox, and nothing is begun once that is there', async () => {
  await using h = await host();
  h.machine.isBooted = false;
  const opened = Promise.withResolvers<void>();
  h.machine.bootGate = opened.promise;
  const { use } = h.machine.bootSnapshots;
  const asked = Promise.withResolvers<{ booting: Promise<void> }>();
  h.machine.bootSnapshots.use = (shape, boot, link, signal) => {
    const seen: typeof boot = (...args) => {
      const booting = boot(...args);
      asked.resolve({ booting });
      return booting;
    };
    return use(shape, seen, link, signal);
  };
  const creating = expect(h.lifecycle.create(id, request)).rejects.toMatchObject({
    code: 'sandbox_not_running',
  });
  const { booting } = await asked.promise;
  await h.lifecycle.destroy(id);
  await creating;
  opened.resolve();
  await booting;
  await turn();
  expect(h.machine.order).not.toContain('begin');
  expect(h.machine.captured.size).toBe(0);
  nothingLeft(h.machine, h.vmsDir);
});

test('a destroy removes what a create links once it is linked', async () => {
  await using h = await host();
  const { linkStart } = h.machine.saved;
  const linking = Promise.withResolvers<void>();
  const linked = Promise.withResolvers<void>();
  h.machine.saved.linkStart = async (...args) => {
    linking.resolve();
    await linked.promise;
    return linkStart(...args);
  };
  let isOver = false;
  const creating = expect(h.lifecycle.create(id, request))
    .rejects.toMatchObject({ code: 'sandbox_not_running' })
    .finally(() => {
      isOver = true;
    });
  await linking.promise;
  const destroyed = h.lifecycle.destroy(id);
  await turn();
  expect(isOver).toBe(false);
  linked.resolve();
  await Promise.all([destroyed, creating]);
  expect(h.machine.captured.size).toBe(0);
  nothingLeft(h.machine, h.vmsDir);
});
