/**
 * The host agent ends at each of its named places, while the operation that gets there is under way, and is
 * started again. What was promised holds afterwards.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Failpoint, failpoints } from '../apps/host-agent/src/failpoints/index.ts';
import type { CreateSandbox } from '../packages/protocol/src/index.ts';
import type { Perch } from '../packages/sdk/src/index.ts';
import { eventually } from './setup/eventually.ts';
import { monitorOf } from './setup/machine.ts';
import { PerchInstance } from './setup/perch-instance.ts';
import { expectConsistent } from './setup/promises.ts';
import { Witness } from './setup/witness.ts';

type Operation = Failpoint extends `${infer Name}.${string}` ? Name : never;

const small: CreateSandbox = { memory_mb: 128, disk_mb: 1024, timeout_sec: 3600 };
let folder: string;
let armed: string;
let instance: PerchInstance;
let perch: Perch;
/** Nobody asks anything of these two while the host agent ends again and again. */
let running: Witness;
let paused: Witness;
/** What the operations are tried on, as long as it lives. */
let subject: Witness | undefined;
let shapes = 0;
/** A snapshot that is replaced again and again. */
const kept = 'kept';
/** Layers of a disk beyond which they are merged. */
const mergeLayers = 3;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'perch-failpoints-'));
  armed = join(folder, 'armed');
  instance = await PerchInstance.start({
    network: 84,
    env: {
      ...{ PERCH_FAILPOINTS: armed, PERCH_GOOD_RUN_SEC: '0', PERCH_WARM_SHAPES: '100' },
      // Only that of which many copies were taken is merged.
      ...{ PERCH_MERGE_LAYERS: `${mergeLayers}`, PERCH_MERGE_PERCENT: '100' },
    },
  });
  ({ perch } = instance);
  running = await newWitness();
  paused = await newWitness();
  await perch.sandboxes.pause(paused.id);
  await perch.snapshots.create({ sandbox_id: running.id, name: kept });
});

afterAll(async () => {
  await instance?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

/** Each tries one place and says what must have become of the sandboxes. */
const operations: Record<Operation, (name: Failpoint) => Promise<void>> = {
  create: (name) => createNothing(name, small),
  monitor: (name) => createNothing(name, small),
  slot: (name) => createNothing(name, small),
  template: (name) => createNothing(name, { ...small, memory_mb: 130 + shapes++ }),
  pause: async (name) => {
    const { id } = await runningSubject();
    await subject?.change();
    await endAt([name], () => perch.sandboxes.pause(id));
    const isCommitted = failpoints.indexOf(name) >= failpoints.indexOf('pause.committed');
    await expectStatus(id, isCommitted ? 'paused' : 'running');
  },
  unpause: async (name) => {
    const { id } = await runningSubject();
    await endAt(['pause.frozen', name], () => perch.sandboxes.pause(id));
    await expectStatus(id, 'running');
  },
  commit: async (name) => {
    const { id } = await runningSubject();
    await endAt([name], () => perch.sandboxes.pause(id));
    await expectStatus(id, 'running');
  },
  snapshot: async (name) => {
    const { id } = await runningSubject();
    await endAt([name], () => perch.snapshots.create({ sandbox_id: id, name: kept }, { overwrite: true }));
    await expectStatus(id, 'running');
    // The one of before, or the new one.
    expect(await perch.snapshots.get(kept)).toMatchObject({ name: kept, memory_mb: small.memory_mb });
  },
  fork: (name) => forkNothing(name),
  copy: (name) => forkNothing(name),
  resume: async (name) => {
    const { id } = await pausedSubject();
    await endAt([name], () => perch.sandboxes.resume(id));
    await expectStatus(id, name === 'resume.running' ? 'running' : 'paused');
  },
  undo: async (name) => {
    const { id } = await pausedSubject();
    await endAt(['resume.thawed', name], () => perch.sandboxes.resume(id));
    await expectStatus(id, 'paused');
  },
  merge: async (name) => {
    const { id } = await runningSubject();
    await subject?.change();
    const again = () => perch.snapshots.create({ sandbox_id: id, name: kept }, { overwrite: true });
    // Each adds a layer, as the pause does.
    for (let made = 0; made < mergeLayers; made++) await again();
    await endAt([name], () => perch.sandboxes.pause(id));
    await expectStatus(id, 'paused');
  },
  destroy: async (name) => {
    const { id } = await perch.sandboxes.create(small);
    await endAt([name], () => perch.sandboxes.delete(id));
    await expectOthers();
  },
  fail: async (name) => {
    const { id } = await perch.sandboxes.create(small);
    await endAt([name], async () => process.kill(monitorOf(instance.dataDir, id), 'SIGKILL'));
    expect((await expectConsistent(instance)).get(id)?.status).toBe('failed');
    await perch.sandboxes.delete(id);
    await expectOthers();
  },
};

test.each(failpoints)('%s', async (name) => {
  const monitor = monitorOf(instance.dataDir, running.id);
  await operations[name.split('.')[0] as Operation](name);
  expect(monitorOf(instance.dataDir, running.id)).toBe(monitor);
});

test('what ran through all of them is whole, and what was paused before goes on', async () => {
  await running.expectWhole();
  await perch.sandboxes.resume(paused.id);
  await paused.expectWhole();
  const { id } = await perch.sandboxes.create({ template: kept });
  expect((await perch.sandboxes.get(id)).status).toBe('running');
  await perch.sandboxes.delete(id);
});

/** Does `work`, which need not succeed, until the host agent has ended at each of these places. */
async function endAt(names: Failpoint[], work: () => Promise<unknown>): Promise<void> {
  writeFileSync(armed, names.map((name) => `${name}\n`).join(''));
  try {
    await work().catch(() => {});
    await eventually(() => !existsSync(armed));
  } finally {
    await rm(armed, { force: true });
  }
}

async function createNothing(name: Failpoint, shape: CreateSandbox): Promise<void> {
  await endAt([name], () => perch.sandboxes.create(shape));
  await expectOthers();
}

/** There is no child, and the source runs on. */
async function forkNothing(name: Failpoint): Promise<void> {
  const { id } = await runningSubject();
  await endAt([name], () => perch.sandboxes.fork(id, { count: 2 }));
  await expectStatus(id, 'running');
}

/** The subject is in this state, runs as it did before, and the others are still there. */
async function expectStatus(id: string, status: 'running' | 'paused'): Promise<void> {
  expect((await expectOthers()).get(id)?.status).toBe(status);
  await (await runningSubject()).expectWhole();
}

/** There are the sandboxes of before, and no other. */
async function expectOthers() {
  const sandboxes = await expectConsistent(instance);
  const known = [running, paused, ...(subject ? [subject] : [])].map(({ id }) => id);
  expect([...sandboxes.keys()].sort()).toEqual(known.sort());
  expect(sandboxes.get(running.id)?.status).toBe('running');
  expect(sandboxes.get(paused.id)?.status).toBe('paused');
  return sandboxes;
}

async function newWitness(): Promise<Witness> {
  return Witness.place(perch, (await perch.sandboxes.create(small)).id);
}

async function runningSubject(): Promise<Witness> {
  subject ??= await newWitness();
  if ((await perch.sandboxes.get(subject.id)).status === 'paused') await perch.sandboxes.resume(subject.id);
  return subject;
}

async function pausedSubject(): Promise<Witness> {
  subject ??= await newWitness();
  await perch.sandboxes.pause(subject.id);
  return subject;
}
