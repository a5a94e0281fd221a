/** For each failpoint a call that gets there, and what may have become of the sandbox that it is tried on. */
import { type Failpoint, failpoints } from '../../apps/host-agent/src/failpoints/index.ts';
import type { ForkResults } from '../../packages/protocol/src/index.ts';
import type { Way } from './armed.ts';
import { monitorOf } from './machine.ts';
import { kept, mergeLayers, type Outcome, type Scene, small } from './scene.ts';

type Operation = Failpoint extends `${infer Name}.${string}` ? Name : never;

export interface Trial extends Way {
  /** The sandbox that it is tried on; undefined when the call makes it. */
  id?: string;
  /** What the sandbox is when the host agent has ended at the place; and when the call was answered well. */
  left: Outcome;
  done: Outcome;
}

type Make = (scene: Scene, name: Failpoint) => Promise<Trial>;

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
  template: async (scene) => createOf(scene, { memory_mb: 130 + shapes++ }),
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
  commit: async (scene) => pauseOf(scene, (await scene.runningSubject()).id),
  snapshot: async (scene) => {
    const { id } = await scene.runningSubject();
    return { id, call: () => replaceKept(scene, id).then(madeNone), ...runsOn };
  },
  fork,
  copy: fork,
  resume: async (scene, name) => {
    const { id } = await scene.pausedSubject();
    return { ...resumeOf(scene, id), left: name === 'resume.running' ? 'running' : 'paused' };
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
  destroy: async ({ instance: { perch } }) => {
    const { id } = await perch.sandboxes.create(small);
    const call = () => perch.sandboxes.delete(id).then(madeNone);
    return { id, call, left: 'gone', done: 'gone' };
  },
  fail: async ({ instance: { perch, dataDir } }) => {
    const { id } = await perch.sandboxes.create(small);
    const monitor = monitorOf(dataDir, id);
    const call = async () => {
      process.kill(monitor, 'SIGKILL');
      return [];
    };
    return { id, call, left: 'failed', done: 'failed' };
  },
};

/** Makes what is tried at a place. */
export function trialAt(name: Failpoint, scene: Scene): Promise<Trial> {
  return makes[name.split('.')[0] as Operation](scene, name);
}

const runsOn = { left: 'running', done: 'running' } as const;
const madeNone = (): string[] => [];

function createOf({ instance: { perch } }: Scene, shape: { memory_mb?: number }): Trial {
  const call = async () => [(await perch.sandboxes.create({ ...small, ...shape })).id];
  return { call, left: 'gone', done: 'running' };
}

function pauseOf({ instance: { perch } }: Scene, id: string): Trial {
  return { id, call: () => perch.sandboxes.pause(id).then(madeNone), left: 'running', done: 'paused' };
}

function resumeOf({ instance: { perch } }: Scene, id: string): Trial {
  return { id, call: () => perch.sandboxes.resume(id).then(madeNone), left: 'paused', done: 'running' };
}

function replaceKept({ instance: { perch } }: Scene, id: string): Promise<unknown> {
  return perch.snapshots.create({ sandbox_id: id, name: kept }, { overwrite: true });
}

function childrenOf({ results }: ForkResults): string[] {
  return results.flatMap((result) => ('sandbox' in result ? [result.sandbox.id] : []));
}
