import { truncate, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { commitSnapshot, SnapshotDirectory } from '../snapshot/index.ts';
import { contentId, facts, fillDirectory, temporaryDirectory } from '../snapshot/testing.ts';
import { type BootShape, type WarmShape, WarmTemplates } from './warm-templates.ts';

const machine = { kind: 'qemu', version: '10.0.2', accelerator: 'tcg', cpu: 'max' } as const;
const shape: WarmShape = {
  ...{ base: contentId, kernel: contentId, initramfs: contentId },
  ...{ vcpus: 1, memory_mb: 1, disk_mb: 64 },
};
const current = () => ({ kernel: contentId, initramfs: contentId });

async function store({ limit = 8 } = {}) {
  const root = await temporaryDirectory();
  const booted: WarmShape[] = [];
  const boot: BootShape = async (wanted, keep) => {
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
  const open = async (change: Partial<typeof machine> | { version: string } = {}, now = current) => {
    const warm = new WarmTemplates({
      ...{ dir: join(root.path, 'warm'), machine: { ...machine, ...change } },
      ...{ limit, log: pino({ level: 'silent' }) },
    });
    await warm.start(now);
    return warm;
  };
  return { booted, boot, open, [Symbol.asyncDispose]: () => root[Symbol.asyncDispose]() };
}

test('a shape is booted once, by the first who asks, also after a restart', async () => {
  await using it = await store();
  const warm = await it.open();
  const [first, second] = await Promise.all([warm.get(shape, it.boot), warm.get(shape, it.boot)]);
  expect(second.path).toBe(first.path);
  expect((await (await it.open()).get(shape, it.boot)).path).toBe(first.path);
  expect(it.booted).toEqual([shape]);
  expect(await first.exists()).toBe(true);
});

test.each<[string, Partial<WarmShape>]>([
  ['image', { base: 'cd'.repeat(32) }],
  ['kernel', { kernel: 'cd'.repeat(32) }],
  ['guest agent', { initramfs: 'cd'.repeat(32) }],
  ['number of processors', { vcpus: 2 }],
  ['disk', { disk_mb: 128 }],
])('another %s is another shape', async (_what, change) => {
  await using it = await store();
  const warm = await it.open();
  const first = await warm.get(shape, it.boot);
  expect((await warm.get({ ...shape, ...change }, it.boot)).path).not.toBe(first.path);
  expect(it.booted).toHaveLength(2);
});

test('what another monitor, kernel or image made, or what is damaged, is removed at the start', async () => {
  await using it = await store();
  const remade = async (warm: WarmTemplates) => {
    const before = it.booted.length;
    await warm.get(shape, it.boot);
    return it.booted.length > before;
  };
  expect(await remade(await it.open())).toBe(true);
  expect(await remade(await it.open())).toBe(false);
  expect(await remade(await it.open({ version: '10.1.0' }))).toBe(true);
  expect(await remade(await it.open())).toBe(true);
  expect(await remade(await it.open({}, () => ({ ...current(), kernel: 'cd'.repeat(32) })))).toBe(true);
  const warm = await it.open();
  const { path } = await warm.get(shape, it.boot);
  await truncate(join(path, 'memfile'), 1);
  expect(await remade(await it.open())).toBe(true);
});

test('beyond the limit the one that was not asked for longest goes', async () => {
  await using it = await store({ limit: 2 });
  const warm = await it.open();
  const a = await warm.get(shape, it.boot);
  const b = await warm.get({ ...shape, vcpus: 2 }, it.boot);
  await utimes(a.path, 1000, 1000);
  await utimes(b.path, 2000, 2000);
  await warm.get(shape, it.boot);
  const c = await warm.get({ ...shape, vcpus: 3 }, it.boot);
  expect(await Promise.all([a, b, c].map((one) => one.exists()))).toEqual([true, false, true]);
});

test('a boot that fails is told to all who wait, and is tried again by the next', async () => {
  await using it = await store();
  const warm = await it.open();
  const fails = () => Promise.reject(new Error('no kernel'));
  const outcomes = await Promise.allSettled([warm.get(shape, fails), warm.get(shape, fails)]);
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(await (await warm.get(shape, it.boot)).exists()).toBe(true);
});
