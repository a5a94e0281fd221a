import { readdir, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { HostMachine } from '@perch/protocol';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { commitSnapshot, type Snapshot, SnapshotDirectory } from '../../snapshot/index.ts';
import { contentId, facts, fillDirectory, temporaryDirectory } from '../../snapshot/testing.ts';
import { type BootGuest, BootSnapshots, type GuestShape } from './boot-snapshots.ts';

const machine: HostMachine = { monitor: facts.monitor, cpu: facts.cpu, disk: { format: 'qcow2' } };
const shape: GuestShape = {
  ...{ base: contentId, kernel: contentId, initramfs: contentId },
  ...{ vcpus: 1, memory_mb: 1, disk_mb: 64 },
};
const current = () => ({ kernel: contentId, initramfs: contentId });

async function store({ limit = 8 } = {}) {
  const root = await temporaryDirectory();
  const booted: GuestShape[] = [];
  const boot: BootGuest = async (wanted, keep) => {
    booted.push(wanted);
    const at = (name: string) => new SnapshotDirectory(join(root.path, `${name}-${booted.length}`));
    const temporary = await fillDirectory(at('temporary').path);
    const { vcpus, memory_mb, disk_mb } = wanted;
    await commitSnapshot({
      temporary,
      final: at('final'),
      facts: { ...facts, machine: { vcpus, memory_mb, disk_mb } },
    });
    await keep(at('final'));
  };
  const open = async (change: Partial<HostMachine> = {}, now = current) => {
    const bootSnapshots = new BootSnapshots({
      ...{ dir: join(root.path, 'boot-snapshots'), machine: { ...machine, ...change } },
      ...{ limit, log: pino({ level: 'silent' }) },
    });
    await bootSnapshots.start(now);
    /** Where the boot snapshot is, once it was used. */
    const get = (wanted: GuestShape, by = boot, signal = nobody) =>
      bootSnapshots.use(wanted, by, async ({ directory }) => directory, signal);
    return Object.assign(bootSnapshots, { get });
  };
  return { booted, boot, open, [Symbol.asyncDispose]: () => root[Symbol.asyncDispose]() };
}

/** Aborts nothing. */
const nobody = new AbortController().signal;

test('who gives up does not wait for the boot, which goes on for others', async () => {
  await using it = await store();
  const bootSnapshots = await it.open();
  const booting = Promise.withResolvers<void>();
  const slow: BootGuest = async (wanted, keep) => {
    await booting.promise;
    await it.boot(wanted, keep);
  };
  const gone = new AbortController();
  const givenUp = bootSnapshots.get(shape, slow, gone.signal);
  const waiting = bootSnapshots.get(shape, slow);
  gone.abort(new Error('gone'));
  await expect(givenUp).rejects.toThrow('gone');
  booting.resolve();
  expect(await (await waiting).exists()).toBe(true);
  expect(it.booted.length).toBe(1);
});

test('a shape is booted once, by the first who asks, also after a restart', async () => {
  await using it = await store();
  const bootSnapshots = await it.open();
  const [first, second] = await Promise.all([bootSnapshots.get(shape), bootSnapshots.get(shape)]);
  expect(second.path).toBe(first.path);
  expect((await (await it.open()).get(shape)).path).toBe(first.path);
  expect(it.booted).toEqual([shape]);
  expect(await first.exists()).toBe(true);
});

test.each<[string, Partial<GuestShape>]>([
  ['image', { base: 'cd'.repeat(32) }],
  ['kernel', { kernel: 'cd'.repeat(32) }],
  ['guest agent', { initramfs: 'cd'.repeat(32) }],
  ['number of processors', { vcpus: 2 }],
  ['disk', { disk_mb: 128 }],
])('another %s is another shape', async (_what, change) => {
  await using it = await store();
  const bootSnapshots = await it.open();
  const first = await bootSnapshots.get(shape);
  expect((await bootSnapshots.get({ ...shape, ...change })).path).not.toBe(first.path);
  expect(it.booted).toHaveLength(2);
});

test('what another monitor, kind of disk, kernel or image made, or what is damaged, is removed at the start', async () => {
  await using it = await store();
  const remade = async (bootSnapshots: Awaited<ReturnType<typeof it.open>>) => {
    const before = it.booted.length;
    await bootSnapshots.get(shape);
    return it.booted.length > before;
  };
  expect(await remade(await it.open())).toBe(true);
  expect(await remade(await it.open())).toBe(false);
  const others: Partial<HostMachine>[] = [
    { monitor: { ...machine.monitor, version: '10.1.0' } },
    { cpu: 'another' },
    { disk: { format: 'dm-snapshot' } },
  ];
  for (const other of others) {
    expect(await remade(await it.open(other))).toBe(true);
    expect(await remade(await it.open())).toBe(true);
  }
  expect(await remade(await it.open({}, () => ({ ...current(), kernel: 'cd'.repeat(32) })))).toBe(true);
  const bootSnapshots = await it.open();
  const { path } = await bootSnapshots.get(shape);
  await truncate(join(path, 'memfile'), 1);
  expect(await remade(await it.open())).toBe(true);
});

test('beyond the limit the one that was not asked for longest goes', async () => {
  await using it = await store({ limit: 2 });
  const bootSnapshots = await it.open();
  const a = await bootSnapshots.get(shape);
  const b = await bootSnapshots.get({ ...shape, vcpus: 2 });
  await utimes(a.path, 1000, 1000);
  await utimes(b.path, 2000, 2000);
  await bootSnapshots.get(shape);
  const c = await bootSnapshots.get({ ...shape, vcpus: 3 });
  expect(await Promise.all([a, b, c].map((one) => one.exists()))).toEqual([true, false, true]);
});

test('a boot that fails is told to all who wait, and is tried again by the next', async () => {
  await using it = await store();
  const bootSnapshots = await it.open();
  const fails = () => Promise.reject(new Error('no kernel'));
  const outcomes = await Promise.allSettled([
    bootSnapshots.get(shape, fails),
    bootSnapshots.get(shape, fails),
  ]);
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(await (await bootSnapshots.get(shape)).exists()).toBe(true);
});

test.each(['memfile', 'memfile.header', 'identity.json', 'snapfile'])(
  'one whose %s is damaged is made again for whoever asks',
  async (file) => {
    await using it = await store();
    const bootSnapshots = await it.open();
    const { path } = await bootSnapshots.get(shape);
    await truncate(join(path, file), 1);
    await Promise.all([bootSnapshots.get(shape), bootSnapshots.get(shape)]);
    expect(it.booted).toHaveLength(2);
    await rm(join(path, file));
    await bootSnapshots.get(shape);
    await writeFile(join(path, 'identity.json'), '{"token":"other!"}');
    expect(await (await bootSnapshots.get(shape)).exists()).toBe(true);
    expect(it.booted).toHaveLength(4);
    expect(await readdir(join(path, '..'))).toHaveLength(1);
  },
);

test('one that is always damaged is not booted for ever', async () => {
  await using it = await store();
  const bootSnapshots = await it.open();
  const damaged: BootGuest = (wanted, keep) =>
    it.boot(wanted, async (snapshot) => {
      await rm(snapshot.file('memfile'));
      await keep(snapshot);
    });
  await expect(bootSnapshots.get(shape, damaged)).rejects.toThrow('damaged or gone');
  expect(it.booted.length).toBeLessThan(5);
});

test('one goes only when nobody links its files', async () => {
  await using it = await store({ limit: 1 });
  const bootSnapshots = await it.open();
  const linking = Promise.withResolvers<void>();
  const seen = Promise.withResolvers<SnapshotDirectory>();
  const link = async ({ directory }: Snapshot) => {
    seen.resolve(directory);
    await linking.promise;
    return directory.exists();
  };
  const used = bootSnapshots.use(shape, it.boot, link, nobody);
  const { path } = await seen.promise;
  const removed = bootSnapshots.remove(basename(path));
  const other = bootSnapshots.get({ ...shape, vcpus: 2 });
  await nextTurn();
  linking.resolve();
  expect(await used).toBe(true);
  await Promise.all([removed, other]);
  expect(await readdir(join(path, '..'))).toEqual([basename((await other).path)]);
});
