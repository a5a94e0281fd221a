import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { chown, mkdir, mkdtempDisposable, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { isAlive, type Leftover, readProcess } from '../../linux/index.ts';
import { commitSnapshot, SnapshotDirectory } from '../../snapshot/index.ts';
import { contentId, facts, fillDirectory } from '../../snapshot/testing.ts';
import { Journal } from '../journal/journal.ts';
import { type FsckDeps, fsck } from './index.ts';

const isRoot = process.getuid?.() === 0;
const id = `sb${'a'.repeat(18)}`;
/** Users of slots 1, 2 and so on. */
const firstUid = 70_030;

async function host() {
  const root = await mkdtempDisposable(join(tmpdir(), 'perch-fsck-'));
  const [vmsDir, sandboxesDir, snapshotsDir, bootSnapshotsDir] = [
    'vms',
    'sandboxes',
    'snapshots',
    'boot-snapshots',
  ].map((name) => join(root.path, name)) as [string, string, string, string];
  for (const path of [vmsDir, sandboxesDir, snapshotsDir, bootSnapshotsDir]) await mkdir(path);
  const journal = new Journal(join(root.path, 'journal.db'));
  const deps: FsckDeps = {
    ...{ journal, vmsDir, sandboxesDir, snapshotsDir, bootSnapshotsDir },
    network: {
      slotOf: (uid) => (uid > firstUid && uid < firstUid + 10 ? uid - firstUid : undefined),
      unowned: async () => [],
    },
    monitor: { unowned: async () => [] },
    disks: { unowned: async () => [] },
    bootSnapshots: { remove: (key) => new SnapshotDirectory(join(bootSnapshotsDir, key)).remove() },
  };
  return {
    deps,
    journal,
    look: async (repair = false) => {
      const findings = await fsck(deps, repair);
      for (const { repaired, remedy } of findings) if (!repair) expect([repaired, remedy]).not.toContain('');
      return findings.map(({ what, repaired }) => (repaired ? `${what} removed` : what));
    },
    [Symbol.asyncDispose]: async () => {
      journal.close();
      await root.remove();
    },
  };
}

async function snapshotAt(path: string): Promise<SnapshotDirectory> {
  const temporary = await fillDirectory(`${path}.new`);
  const final = new SnapshotDirectory(path);
  await mkdir(join(path, '..'), { recursive: true });
  await commitSnapshot({ temporary, final, facts });
  return final;
}

function enter(journal: Journal, name = id): void {
  const machine = { vcpus: 1, memory_mb: 1, disk_mb: 64 };
  const content = { base: contentId, kernel: contentId, initramfs: contentId };
  journal.insert({ id: name, kind: 'sandbox', generation: 1, template: 'base', ...machine, ...content });
}

/** In the journal, with the checkpoints 0 and 1 of which it goes on from the second. */
async function pausedSandbox({ journal, deps: { sandboxesDir } }: Awaited<ReturnType<typeof host>>) {
  enter(journal);
  for (const checkpoint of ['0', '1']) await snapshotAt(join(sandboxesDir, id, checkpoint));
  journal.transition(id, 'running');
  journal.transition(id, 'pausing', { captures: 1 });
  journal.transition(id, 'paused', { last_checkpoint: 1 });
  return (checkpoint: number) => join(sandboxesDir, id, `${checkpoint}`);
}

/** A process of the user of a slot. */
async function processOf(slot: number, cwd = '/'): Promise<ChildProcess & { pid: number }> {
  const uid = firstUid + slot;
  const child = spawn('sleep', ['600'], { uid, gid: uid, cwd, stdio: 'ignore' });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child, 'spawn');
  return child as ChildProcess & { pid: number };
}

test('of a host where all is whole there is nothing to say', async () => {
  await using it = await host();
  await pausedSandbox(it);
  await snapshotAt(join(it.deps.snapshotsDir, 'named'));
  await snapshotAt(join(it.deps.bootSnapshotsDir, 'ab'.repeat(16)));
  expect(await it.look(true)).toEqual([]);
});

test('a paused sandbox whose state is missing, or empty, is told', async () => {
  await using it = await host();
  const checkpoint = await pausedSandbox(it);
  rmSync(checkpoint(1), { recursive: true });
  expect(await it.look()).toEqual([checkpoint(1)]);
  await mkdir(checkpoint(1));
  expect(await it.look(true)).toEqual([checkpoint(1)]);
  rmSync(join(checkpoint(1), '..'), { recursive: true });
  expect(await it.look()).toEqual([checkpoint(1)]);
});

test('a running sandbox needs the state that it went on from', async () => {
  await using it = await host();
  enter(it.journal);
  expect(await it.look()).toEqual([]);
  it.journal.transition(id, 'running', { last_checkpoint: 0 });
  const [finding] = await fsck(it.deps, false);
  expect(finding).toMatchObject({ what: join(it.deps.sandboxesDir, id, '0') });
  expect(finding?.remedy).toContain('cannot be paused');
});

test('an older state that is damaged is removed when asked, unless something may go on from it', async () => {
  await using it = await host();
  const checkpoint = await pausedSandbox(it);
  await truncate(join(checkpoint(0), 'memfile'), 1);
  it.journal.transition(id, 'resuming', { generation: 2 });
  expect(await it.look(true)).toEqual([checkpoint(0)]);
  it.journal.transition(id, 'paused', { generation: 1 });
  expect(await it.look()).toEqual([checkpoint(0)]);
  expect(await it.look(true)).toEqual([`${checkpoint(0)} removed`]);
  expect(await it.look()).toEqual([]);
});

test('what cannot be looked at is told, and does not keep the rest from being looked at', async () => {
  await using it = await host();
  const checkpoint = await pausedSandbox(it);
  const loop = join(it.deps.snapshotsDir, 'loop');
  await symlink(loop, loop);
  rmSync(it.deps.bootSnapshotsDir, { recursive: true });
  await writeFile(it.deps.bootSnapshotsDir, 'no directory');
  rmSync(it.deps.vmsDir, { recursive: true });
  await truncate(join(checkpoint(1), 'snapfile'), 1);
  const findings = await fsck(it.deps, true);
  expect(findings.map(({ what }) => what)).toEqual(
    expect.arrayContaining([it.deps.vmsDir, checkpoint(1), loop, it.deps.bootSnapshotsDir]),
  );
  for (const { what, problem, repaired } of findings) {
    expect(repaired).toBe(false);
    if (what !== checkpoint(1)) expect(problem).toContain('could not be looked at');
  }
});

test('a sandbox that goes on from another state meanwhile has lost none', async () => {
  await using it = await host();
  const checkpoint = await pausedSandbox(it);
  let looks = 0;
  const journal = {
    list: () => it.journal.list(),
    get: (name: string) => {
      const record = it.journal.get(name);
      // As a look finds it that began before the second checkpoint was there.
      if (record && looks++ === 0) rmSync(checkpoint(0), { recursive: true, force: true });
      return record && looks === 1 ? { ...record, last_checkpoint: 0 } : record;
    },
  };
  expect(await fsck({ ...it.deps, journal }, false)).toEqual([]);
  expect(looks).toBeGreaterThan(1);
});

test('what is removed or destroyed while it looks is neither damaged nor lost', async () => {
  await using it = await host();
  for (let round = 0; round < 20; round++) {
    const named = await snapshotAt(join(it.deps.snapshotsDir, 'named'));
    const other = await snapshotAt(join(it.deps.bootSnapshotsDir, 'other'));
    const looked = it.look();
    await Promise.all([named.remove(), other.remove()]);
    expect(await looked).toEqual([]);
  }
});

test('what is destroyed while it looks is nothing that the journal has lost', async () => {
  await using it = await host();
  const { vmsDir, sandboxesDir } = it.deps;
  for (const path of [join(vmsDir, 'going'), join(sandboxesDir, 'going'), join(vmsDir, 'lost')])
    await mkdir(path);
  const journal = {
    ...{ get: () => undefined },
    list: () => {
      for (const path of [vmsDir, sandboxesDir])
        rmSync(join(path, 'going'), { recursive: true, force: true });
      return [];
    },
  };
  const findings = await fsck({ ...it.deps, journal }, false);
  expect(findings.map(({ what }) => what)).toEqual([join(vmsDir, 'lost')]);
});

test('what no sandbox owns is found, and goes when asked: machine, state, cgroup, slot', async () => {
  await using it = await host();
  await pausedSandbox(it);
  const { vmsDir, sandboxesDir, monitor, network } = it.deps;
  // One of the sandbox that is paused, which holds none.
  const machines = [join(vmsDir, 'lost'), join(vmsDir, id)];
  const states = [join(sandboxesDir, 'lost')];
  for (const path of [...machines, ...states]) await mkdir(path);
  const there = new Set(['cgroup of lost', 'slot of lost']);
  const leftover = (what: string): Leftover[] =>
    there.has(what) ? [{ what, remove: async () => void there.delete(what) }] : [];
  monitor.unowned = async (owned) => {
    expect([...owned()]).toEqual([]);
    return leftover('cgroup of lost');
  };
  network.unowned = async () => leftover('slot of lost');
  const all = [...machines, 'cgroup of lost', 'slot of lost', ...states];
  expect(await it.look()).toEqual(all);
  expect(there.size).toBe(2);
  expect(await it.look(true)).toEqual(all.map((what) => `${what} removed`));
  expect(await it.look()).toEqual([]);
  expect(existsSync(join(sandboxesDir, id))).toBe(true);
});

test('what cannot be removed says why, and the rest is', async () => {
  await using it = await host();
  const lost = join(it.deps.sandboxesDir, 'lost');
  await mkdir(lost);
  const remove = () => Promise.reject(new Error('device or resource busy'));
  it.deps.monitor.unowned = async () => [{ what: 'cgroup of lost', remove }];
  const findings = await fsck(it.deps, true);
  expect(findings).toMatchObject([
    { what: 'cgroup of lost', repaired: false, remedy: expect.stringContaining('device or resource busy') },
    { what: lost, repaired: true },
  ]);
});

test.runIf(isRoot)(
  'a process of a user of ours that no sandbox has is found, and ended when asked',
  async () => {
    await using it = await host();
    enter(it.journal);
    it.journal.setSlot(id, 1);
    const monitor = await processOf(1);
    expect(await it.look()).toEqual([]);
    const startTime = readProcess(monitor.pid)?.startTime ?? 0;
    it.journal.setProcesses(id, [{ pid: monitor.pid, startTime }]);
    const another = await processOf(1);
    const lost = await processOf(2);
    const found = await it.look();
    expect(found.toSorted()).toEqual(
      [
        `process ${another.pid} of user ${firstUid + 1}`,
        `process ${lost.pid} of user ${firstUid + 2}`,
      ].toSorted(),
    );
    const ended = [once(another, 'exit'), once(lost, 'exit')];
    expect(await it.look(true)).toHaveLength(2);
    await Promise.all(ended);
    expect(await it.look()).toEqual([]);
    expect(isAlive({ pid: monitor.pid, startTime })).toBe(true);
  },
);

test.runIf(isRoot)('a tool that reads layers for us is nothing that nobody owns', async () => {
  await using it = await host();
  const dir = join(it.deps.vmsDir, '.merge-x');
  await mkdir(dir);
  await chown(dir, firstUid + 3, firstUid + 3);
  await processOf(3, dir);
  let inUse: number[] = [];
  it.deps.network.unowned = async (owned) => {
    inUse = [...owned()];
    return [];
  };
  expect(await it.look(true)).toEqual([]);
  expect(inUse).toEqual([3]);
});

test.runIf(isRoot)(
  'a machine that is lost goes with what runs in it, and with nothing of its user elsewhere',
  async () => {
    await using it = await host();
    enter(it.journal);
    it.journal.setSlot(id, 1);
    const monitor = await processOf(1);
    const startTime = readProcess(monitor.pid)?.startTime ?? 0;
    it.journal.setProcesses(id, [{ pid: monitor.pid, startTime }]);
    const dir = join(it.deps.vmsDir, 'lost');
    await mkdir(dir);
    await chown(dir, firstUid + 1, firstUid + 1);
    expect(await it.look(true)).toEqual([`${dir} removed`]);
    expect(isAlive({ pid: monitor.pid, startTime })).toBe(true);
  },
);
