/** For each failpoint a call that gets there, and what may have become of the sandbox that it is tried on. */
import { readdirSync, utimesSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type Failpoint, failpoints } from '../../apps/host-agent/src/failpoints/index.ts';
import type { ForkResults, PauseSandbox, ResumeSandbox } from '../../packages/protocol/src/index.ts';
import type { Way } from './armed.ts';
import { daemonPid, run } from './machine.ts';
import { untilStanding } from './ready.ts';
import { bootSnapshots, kept, mergeLayers, type Outcome, passing, type Scene, small } from './scene.ts';
import { deathOf, destroyOf, madeNone } from './ways.ts';

type Operation = Failpoint extends `${infer Name}.${string}` ? Name : never;

export interface Trial extends Way<Failpoint> {
  /** The sandbox that it is tried on; undefined when the call makes it. */
  id?: string;
  /** The status of the sandbox when the host agent has ended at the place; and when the call was answered well. */
  left: Outcome;
  done: Outcome;
  /** Further conditions that must hold afterwards. */
  check?: () => Promise<unknown>;
  /** A snapshot that can be started afterwards, if it is there. */
  template?: string;
}

type Make = (scene: Scene, name: Failpoint) => Promise<Trial>;

/** The operations that need ready guests: a scene has none unless it is asked for one. */
const readyOnly = /^(ready|takeover|pin)\./;
/** A kind of disk has places of its own. States of device-mapper share no layers, of which there is nothing to merge. */
const ofOtherDisks = process.env.PERCH_ROOTFS === 'device-mapper' ? /^merge\./ : /^disk\./;
const places = failpoints.filter((name) => !ofOtherDisks.test(name));
export const withReady = places.filter((name) => readyOnly.test(name));
export const withoutReady = places.filter((name) => !readyOnly.test(name));

/** The work in whose middle a host agent ends, so that the next has something to bring in order. */
const unfinished: Record<string, Failpoint> = {
  'start.swept': 'create.monitor',
  'start.adopted': 'pause.frozen',
  'start.network': 'fork.memory',
  'start.finished': 'pause.committed',
  'start.done': 'snapshot.replaced',
};

let shapes = 0;

const create: Make = async (scene) => createOf(scene, {});
const fork: Make = async (scene) => {
  const { id } = await scene.runningSubject();
  const { sandboxes } = scene.instance.perch;
  return { id, call: async () => childrenOf(await sandboxes.fork(id, { count: 2 })), ...runsOn };
};

const makes: Record<Operation, Make> = {
  create,
  monitor: create,
  slot: create,
  disk: create,
  template: async (scene) => createOf(scene, newShape(scene)),
  evict: async (scene) => {
    if (bootSnapshotsOf(scene).length < bootSnapshots) await passThrough(scene, newShape(scene));
    const before = bootSnapshotsOf(scene);
    const check = async () => {
      // The newest is there, and so is what is in use.
      const now = bootSnapshotsOf(scene);
      expect(now).toContain(scene.bootSnapshot);
      expect(now.filter((key) => !before.includes(key))).toHaveLength(1);
    };
    return { ...createOf(scene, newShape(scene)), check };
  },
  ready: async ({ instance: { dataDir } }) => {
    const host = daemonPid(dataDir, 'perch-host');
    if (host === undefined) throw new Error('There is no host agent to end.');
    const call = async () => {
      // The next one makes guests that stand ready.
      process.kill(host, 'SIGKILL');
      return [];
    };
    return { call, left: 'gone', done: 'gone' };
  },
  takeover: async ({ instance: { perch, dataDir } }) => {
    const listed = (await perch.sandboxes.list()).items.map(({ id }) => id);
    await untilStanding(dataDir, 1, listed);
    const call = async () => [(await perch.sandboxes.create({ timeout_sec: 3600 })).id];
    return { call, left: 'gone', done: 'running' };
  },
  pin: async ({ instance: { perch } }) => {
    const call = async () => {
      await perch.templates.pinReady('base', { count: 1 });
      return [];
    };
    const check = async () => {
      const all = await perch.templates.ready();
      expect(all.filter(({ pinned }) => pinned !== null)).toMatchObject([{ template: 'base', wanted: 1 }]);
    };
    return { call, ...nothingMade, check };
  },
  pause: async (scene, name) => {
    const subject = await scene.runningSubject();
    await subject.change();
    const isCommitted = failpoints.indexOf(name) >= failpoints.indexOf('pause.committed');
    return { ...pauseOf(scene, subject.id), left: isCommitted ? 'paused' : 'running' };
  },
  unpause: async (scene) => {
    const { id } = await scene.runningSubject();
    return { ...pauseOf(scene, id), after: 'pause.frozen', ...runsOn };
  },
  // On one of their own, whose processes may go.
  cold: async (scene) => pauseOf(scene, await newOne(scene), { memory: false }),
  commit: async (scene) => pauseOf(scene, (await scene.runningSubject()).id),
  snapshot: async (scene) => {
    const { id } = await scene.runningSubject();
    return { id, call: () => replaceKept(scene, id).then(madeNone), ...runsOn };
  },
  remove: async (scene) => {
    const { snapshots } = scene.instance.perch;
    await ensurePassing(scene);
    const check = async () => expect(await namesOf(scene)).toEqual([kept]);
    return { call: () => snapshots.delete(passing).then(madeNone), ...nothingMade, check };
  },
  flatten: async (scene) => {
    const { snapshots } = scene.instance.perch;
    await ensurePassing(scene);
    const call = async () => {
      await snapshots.flatten(passing);
      return [];
    };
    const check = async () => expect(await namesOf(scene)).toEqual([kept, passing]);
    return { call, ...nothingMade, check, template: passing };
  },
  convert: async (scene) => {
    const { snapshots } = scene.instance.perch;
    await ensurePassing(scene);
    const { disk_format: format } = await snapshots.get(passing);
    const to = format === 'qcow2' ? 'dm-snapshot' : 'qcow2';
    const call = async () => {
      await snapshots.convert(passing, { to });
      return [];
    };
    const check = async () => expect(await namesOf(scene)).toEqual([kept, passing]);
    return { call, ...nothingMade, check, template: passing };
  },
  import: async (scene, name) => {
    const { instance } = scene;
    if ((await namesOf(scene)).includes(passing)) await instance.perch.snapshots.delete(passing);
    const from = join(scene.outside, 'from');
    await rm(from, { recursive: true, force: true });
    await run('cp', ['-r', '--sparse=always', '--', join(instance.dataDir, 'snapshots', kept), from]);
    if (name === 'import.rebuilt') await rm(join(from, 'manifest.json'));
    let isAnswered = false;
    const call = async () => {
      await instance.run('snapshot', 'import', from, '--name', passing);
      isAnswered = true;
      return [];
    };
    const check = async () => {
      const names = await namesOf(scene);
      expect(isAnswered ? [[kept, passing]] : [[kept], [kept, passing]]).toContainEqual(names);
    };
    return { call, ...nothingMade, check, template: passing };
  },
  fork,
  copy: fork,
  resume: async (scene, name) => {
    const { id } = await scene.pausedSubject();
    return { ...resumeOf(scene, id), left: name === 'resume.running' ? 'running' : 'paused' };
  },
  reboot: async (scene) => {
    const id = await newOne(scene);
    await scene.instance.perch.sandboxes.pause(id);
    return resumeOf(scene, id, { memory: false });
  },
  undo: async (scene) => {
    const { id } = await scene.pausedSubject();
    return { ...resumeOf(scene, id), after: 'resume.thawed', done: 'paused' };
  },
  merge: async (scene) => {
    const subject = await scene.runningSubject();
    await subject.change();
    // Each adds a layer, as the pause does.
    for (let made = 0; made < mergeLayers; made++) await replaceKept(scene, subject.id);
    return { ...pauseOf(scene, subject.id), left: 'paused' };
  },
  destroy: async (scene) => ({ ...(await destroyOf(scene)), left: 'gone', done: 'gone' }),
  fail: async (scene) => ({ ...(await deathOf(scene)), left: 'failed', done: 'failed' }),
  start: async (scene, name) => {
    const after = unfinished[name];
    if (!after) throw new Error(`What is left unfinished before ${name}?`);
    const trial = await trialAt(after, scene);
    return { ...trial, after, done: trial.left };
  },
};

/** Makes what is tried at a place. */
export function trialAt(name: Failpoint, scene: Scene): Promise<Trial> {
  return makes[name.split('.')[0] as Operation](scene, name);
}

/** Has the host agent end at a place: all is as before, or as asked for, once it is started again. */
export async function proveEndAt(name: Failpoint, scene: Scene): Promise<void> {
  const trial = await trialAt(name, scene);
  await scene.armed.endAt(name, trial);
  // Of what was on its way nobody is told, so none of it stays.
  await scene.expectOutcome(trial.id, [trial.left], { made: [] });
  await trial.check?.();
  if (trial.template) await scene.expectStarts(trial.template);
}

const runsOn = { left: 'running', done: 'running' } as const;
/** It is about no sandbox. */
const nothingMade = { left: 'gone', done: 'gone' } as const;
function createOf({ instance: { perch } }: Scene, shape: { memory_mb?: number }): Trial {
  const call = async () => [(await perch.sandboxes.create({ ...small, ...shape })).id];
  return { call, left: 'gone', done: 'running' };
}

/** A shape that nobody has asked for yet. The shape that gives way to it is not the one that all others have. */
function newShape({ instance: { dataDir }, bootSnapshot }: Scene): { memory_mb: number } {
  const now = new Date();
  utimesSync(join(dataDir, 'boot-snapshots', bootSnapshot), now, now);
  return { memory_mb: 130 + shapes++ };
}

async function passThrough({ instance: { perch } }: Scene, shape: { memory_mb: number }): Promise<void> {
  await perch.sandboxes.delete((await perch.sandboxes.create({ ...small, ...shape })).id);
}

function bootSnapshotsOf({ instance: { dataDir } }: Scene): string[] {
  return readdirSync(join(dataDir, 'boot-snapshots'));
}

function pauseOf({ instance: { perch } }: Scene, id: string, how?: PauseSandbox): Trial {
  return { id, call: () => perch.sandboxes.pause(id, how).then(madeNone), left: 'running', done: 'paused' };
}

async function newOne({ instance: { perch } }: Scene): Promise<string> {
  return (await perch.sandboxes.create(small)).id;
}

function resumeOf({ instance: { perch } }: Scene, id: string, how?: ResumeSandbox): Trial {
  return { id, call: () => perch.sandboxes.resume(id, how).then(madeNone), left: 'paused', done: 'running' };
}

function replaceKept({ instance: { perch } }: Scene, id: string): Promise<unknown> {
  return perch.snapshots.create({ sandbox_id: id, name: kept }, { overwrite: true });
}

/** One whose disk has layers. */
async function ensurePassing({ runningId, instance: { perch } }: Scene): Promise<void> {
  await perch.snapshots.create({ sandbox_id: runningId, name: passing }, { overwrite: true });
}

async function namesOf({ instance: { perch } }: Scene): Promise<string[]> {
  return (await perch.snapshots.list({ type: 'snapshot' })).items.map(({ name }) => name);
}

function childrenOf({ results }: ForkResults): string[] {
  return results.flatMap((result) => ('sandbox' in result ? [result.sandbox.id] : []));
}
