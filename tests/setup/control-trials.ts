/** For each failpoint of perchd a call that gets there, and what may have become of what it is tried on. */
import { type Failpoint, failpoints } from '../../apps/control-plane/src/failpoints/index.ts';
import { isPerchError } from '../../packages/sdk/src/index.ts';
import type { Way } from './armed.ts';
import { eventually } from './eventually.ts';
import { kept, type Outcome, type Scene, small } from './scene.ts';
import { deathOf, destroyOf, madeNone } from './ways.ts';

type Operation = Failpoint extends `${infer Name}.${string}` ? Name : never;

export interface ControlTrial extends Way<Failpoint> {
  /** The sandbox that it is tried on; undefined when the call makes some. */
  id?: string;
  /** The statuses that it may have when perchd has ended at the place, or that each of the made ones may have. */
  left: Outcome[];
}

type Make = (scene: Scene, place: Failpoint) => Promise<ControlTrial>;

/** A place, and what gets there. */
export interface Case {
  place: Failpoint;
  by: Operation | 'create without a key' | 'command that resumes';
}

export const cases: Case[] = [
  ...failpoints.map((place) => ({ place, by: place.split('.')[0] as Operation })),
  { place: 'create.written', by: 'create without a key' },
  { place: 'create.answered', by: 'create without a key' },
  { place: 'create.done', by: 'create without a key' },
  { place: 'resume.written', by: 'command that resumes' },
  { place: 'resume.answered', by: 'command that resumes' },
  { place: 'resume.done', by: 'command that resumes' },
];

/** How long the same request comes again until it is answered. */
const patienceMs = 60_000;
/** MiB; more than a machine has that runs this. */
const tooMuch = 65_536;

const makes: Record<Case['by'], Make> = {
  create: async (scene, place) => (place === 'create.refused' ? refused(scene) : repeated(scene)),
  'create without a key': async ({ instance: { url, key } }, place) => {
    const call = async () => {
      const headers = { 'x-api-key': key, 'content-type': 'application/json' };
      const answer = await fetch(`${url}/v1/sandboxes`, {
        ...{ method: 'POST', headers, body: JSON.stringify(small) },
      });
      return [((await answer.json()) as { id: string }).id];
    };
    // Nobody knows its id, but for one that runs already.
    return { call, left: [place === 'create.done' ? 'running' : 'gone'] };
  },
  pause: async (scene, place) => {
    const subject = await scene.runningSubject();
    await subject.change();
    const call = () => scene.instance.perch.sandboxes.pause(subject.id).then(madeNone);
    return { id: subject.id, call, left: [place === 'pause.written' ? 'running' : 'paused'] };
  },
  resume: async (scene, place) => {
    const { id } = await scene.pausedSubject();
    const call = () => scene.instance.perch.sandboxes.resume(id).then(madeNone);
    return { id, call, left: [place === 'resume.written' ? 'paused' : 'running'] };
  },
  'command that resumes': async ({ instance: { perch } }, place) => {
    const { id } = await perch.sandboxes.create({ ...small, auto_resume: true });
    await perch.sandboxes.pause(id);
    const call = () => perch.sandboxes.exec(id, { cmd: 'true' }).then(madeNone);
    return { id, call, left: [place === 'resume.written' ? 'paused' : 'running'] };
  },
  snapshot: async (scene) => {
    const { id } = await scene.runningSubject();
    const { snapshots } = scene.instance.perch;
    const call = () => snapshots.create({ sandbox_id: id, name: kept }, { overwrite: true }).then(madeNone);
    return { id, call, left: ['running'] };
  },
  fork: async (scene, place) => {
    const { id } = await scene.runningSubject();
    const { sandboxes } = scene.instance.perch;
    const call = () => sandboxes.fork(id, { count: 2 }).then(madeNone);
    // Children that nobody was told of go, but for those that run already.
    if (place === 'fork.done') return { call, left: ['running'] };
    return { call, left: place === 'fork.child' ? ['running', 'gone'] : ['gone'] };
  },
  destroy: async (scene) => ({ ...(await destroyOf(scene)), left: ['gone'] }),
  fail: async (scene) => ({ ...(await deathOf(scene)), left: ['failed'] }),
  /** The one before ends when the host has paused a sandbox and nothing is written of it. */
  start: async (scene) => ({ ...(await makes.pause(scene, 'pause.answered')), after: 'pause.answered' }),
};

export function controlTrialAt({ place, by }: Case, scene: Scene): Promise<ControlTrial> {
  return makes[by](scene, place);
}

/** Whoever asks again with the same key gets one sandbox. */
function repeated({ instance: { perch } }: Scene): ControlTrial {
  const idempotencyKey = crypto.randomUUID();
  const call = async () => {
    const ask = () => perch.sandboxes.create(small, { idempotencyKey }).catch(() => undefined);
    return [(await eventually(ask, patienceMs)).id];
  };
  return { call, left: ['running'] };
}

/** The same, of what the host has no room for. */
function refused({ instance: { perch } }: Scene): ControlTrial {
  const idempotencyKey = crypto.randomUUID();
  const request = { ...small, memory_mb: tooMuch };
  const call = async () => {
    await eventually(
      () =>
        perch.sandboxes.create(request, { idempotencyKey }).then(
          () => Promise.reject(new Error('There was room for it.')),
          (error: unknown) => isPerchError(error, 'capacity_exhausted'),
        ),
      patienceMs,
    );
    return [];
  };
  return { call, left: ['gone'] };
}
