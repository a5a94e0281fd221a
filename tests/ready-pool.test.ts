/** Guests that stand ready for a create: nobody's, without CPU, and gone when their memory is needed. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CreateSandbox, limits } from '../packages/protocol/src/index.ts';
import type { Perch } from '../packages/sdk/src/index.ts';
import { expectRightClock, timed } from './setup/clock.ts';
import { eventually } from './setup/eventually.ts';
import { daemonPid, hostSandboxes, vmDirectories } from './setup/machine.ts';
import { PerchInstance } from './setup/perch-instance.ts';
import { untilStanding } from './setup/ready.ts';
import { newSandbox, sh, type TestSandbox } from './setup/sandbox.ts';

let instance: PerchInstance;
let perch: Perch;
/** The shape of those that are kept. */
const usual = { memory_mb: limits.memoryMb.default, disk_mb: limits.diskMb.default };

beforeAll(async () => {
  // Room for two of them and a little more; on a busy machine, too, they follow what is asked for.
  const env = { PERCH_READY: '2', PERCH_MEMORY_MB: '2900', PERCH_READY_PRESSURE: '100' };
  instance = await PerchInstance.start({ network: 88, env });
  ({ perch } = instance);
  await untilStanding(instance.dataDir, 2);
}, 120_000);

afterAll(async () => {
  await instance?.[Symbol.asyncDispose]();
});

test('a create takes one over, with an identity, an environment and random numbers of its own', async () => {
  const before = await untilStanding(instance.dataDir, 2);
  expect((await perch.sandboxes.list()).items).toEqual([]);
  await using one = await newSandbox(perch, { ...usual, env: { A: 'one' } });
  await using two = await newSandbox(perch, { ...usual, env: { A: 'two' } });
  expect(vmDirectories(instance.dataDir)).toEqual(expect.arrayContaining(before));
  const who =
    'hostname; echo $A; cat /etc/machine-id; cat /proc/sys/kernel/random/uuid; ls -A /tmp /home/user';
  const told = await Promise.all([one, two].map(async ({ id }) => (await sh(perch, id, who)).split('\n')));
  expect(told.map(([host, a]) => [host, a])).toEqual([
    [one.id, 'one'],
    [two.id, 'two'],
  ]);
  expect(told[0]?.[2]).not.toBe(told[1]?.[2]);
  expect(told[0]?.[3]).not.toBe(told[1]?.[3]);

  await perch.sandboxes.pause(one.id);
  await perch.sandboxes.resume(one.id);
  expect(await sh(perch, one.id, 'hostname; echo $A')).toBe(`${one.id}\none\n`);
});

test('the clock of one that is taken over is right, which has stood still with it', async () => {
  await untilStanding(instance.dataDir, 2);
  // Nobody can set the clock of a guest that stands ready: it has to fall behind by more than it may be off.
  await sleep(3000);
  const [made, toldWithin] = await timed(() => newSandbox(perch, usual));
  await using sandbox = made;
  await expectRightClock(perch, sandbox.id, toldWithin);
});

test('they give way to a sandbox that needs their memory, and come back after it', async () => {
  await untilStanding(instance.dataDir, 2);
  await using large = await newSandbox(perch, { memory_mb: 2048, disk_mb: 1024 });
  expect(await sh(perch, large.id, 'echo fits')).toBe('fits\n');
  expect(vmDirectories(instance.dataDir)).toEqual([large.id]);
});

test('after kill -9 of perch-host sandboxes are as before, and others stand ready', async () => {
  await using sandbox = await newSandbox(perch, usual);
  await sh(perch, sandbox.id, 'echo kept > /home/user/x');
  process.kill(daemonPid(instance.dataDir, 'perch-host') ?? 0, 'SIGKILL');
  await eventually(async () => (await perch.health().catch(() => undefined))?.status === 'ok', 60_000);
  expect(await sh(perch, sandbox.id, 'cat /home/user/x')).toBe('kept\n');
  const names = await eventually(() => {
    const all = vmDirectories(instance.dataDir);
    return all.length === 3 && all;
  }, 60_000);
  expect(readdirSync(join(instance.dataDir, 'sandboxes')).length).toBe(names.length);
});

test('`perch up` that is stopped leaves none of them', async () => {
  await instance.stop();
  expect(vmDirectories(instance.dataDir)).toEqual([]);
  await instance.up();
  await untilStanding(instance.dataDir, 2);
});

/** So many creates at once. */
async function burst(count: number, request: CreateSandbox): Promise<TestSandbox[] & AsyncDisposable> {
  const all = await Promise.all(Array.from({ length: count }, () => newSandbox(perch, request)));
  const dispose = async () => void (await Promise.all(all.map((one) => one[Symbol.asyncDispose]())));
  return Object.assign(all, { [Symbol.asyncDispose]: dispose });
}

/** The stages of the creates of sandboxes, by name. */
async function stagesOf(sandboxes: readonly { id: string }[]): Promise<string[][]> {
  const known = await hostSandboxes(instance.dataDir);
  return sandboxes.map(({ id }) => Object.keys(known.find((one) => one.id === id)?.timings_ms ?? {}).sort());
}

const takenOver = ['identity', 'template', 'thaw', 'total'];
/** One at a time, and only while nobody creates anything. */
const allMadeMs = 150_000;

test('after a burst of another shape each create of the next burst takes a ready guest over', async () => {
  const other = { memory_mb: 128, disk_mb: 1024 };
  {
    await using first = await burst(3, other);
    expect((await stagesOf(first)).flat()).not.toContain('thaw');
  }
  await untilStanding(instance.dataDir, 5, [], allMadeMs);
  await using second = await burst(3, other);
  expect(await stagesOf(second)).toEqual([takenOver, takenOver, takenOver]);
  for (const { id } of second) expect(await sh(perch, id, 'hostname')).toBe(`${id}\n`);
}, 300_000);

test('the number that is pinned stands ready, also after a restart, until it is given back', async () => {
  const pinned = () => perch.templates.ready().then((all) => all.map((one) => [one.memory_mb, one.pinned]));
  expect(await perch.templates.pinReady('base', { count: 1 })).toMatchObject({ ...usual, pinned: 1 });
  await perch.templates.pinReady('base', { count: 3, memory_mb: 128, disk_mb: 1024 });
  await instance.stop();
  await instance.up();
  await untilStanding(instance.dataDir, 4, [], allMadeMs);
  expect(await pinned()).toEqual([
    [128, 3],
    [512, 1],
  ]);
  const refused = perch.templates.pinReady('base', { count: 40 });
  await expect(refused).rejects.toMatchObject({
    code: 'too_many_ready',
    details: { limit: 32, requested: 43 },
  });
  await perch.templates.pinReady('base', { count: null });
  await perch.templates.pinReady('base', { count: null, memory_mb: 128, disk_mb: 1024 });
  await untilStanding(instance.dataDir, 2);
  expect(await pinned()).toEqual([[512, null]]);
}, 300_000);

test('a ready guest of a snapshot goes on where the snapshot was, not before a create, and goes with it', async () => {
  await instance.stop();
  await instance.up();
  const name = 'counting';
  const counted = async (id: string) => Number(await sh(perch, id, 'cat /home/user/count'));
  {
    await using source = await newSandbox(perch);
    const loop = 'cd; for ((i = 0; ; i++)); do echo $i > new; mv new count; sleep 0.2; done';
    await sh(perch, source.id, `setsid bash -c '${loop}' >/dev/null 2>&1 </dev/null &`);
    await eventually(async () => (await counted(source.id).catch(() => 0)) > 0, 30_000);
    await perch.snapshots.create({ sandbox_id: source.id, name });
  }
  let before: number;
  {
    await using first = await burst(2, { template: name });
    before = Math.max(...(await Promise.all(first.map(({ id }) => counted(id)))));
  }
  await untilStanding(instance.dataDir, 4, [], allMadeMs);
  // The loop would have gone on by some fifty.
  await sleep(10_000);
  {
    const [made, toldWithin] = await timed(() => burst(2, { template: name }));
    await using second = made;
    expect(await stagesOf(second)).toEqual([takenOver, takenOver]);
    for (const { id } of second) {
      expect(await counted(id)).toBeLessThan(before + 30);
      expect(await sh(perch, id, 'hostname')).toBe(`${id}\n`);
      await expectRightClock(perch, id, toldWithin);
    }
  }
  await perch.templates.pinReady(name, { count: 1 });
  await untilStanding(instance.dataDir, 3, [], allMadeMs);
  await perch.snapshots.delete(name);
  expect(vmDirectories(instance.dataDir)).toHaveLength(2);
  expect((await perch.templates.ready()).filter(({ pinned }) => pinned !== null)).toEqual([]);
}, 400_000);
