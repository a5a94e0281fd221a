/**
 * Another process ends while the host agent stands at one of its named places; then the host agent goes on. What was
 * promised holds afterwards. One process a place, by turns: `PERCH_FAILPOINT_SEED` says which is the first.
 * `PERCH_FAILPOINT_VICTIMS`, such as `perchd,monitor`, has each of those tried at each place.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Failpoint } from '../apps/host-agent/src/failpoints/index.ts';
import type { Answer } from './setup/armed.ts';
import { daemonPid, monitors } from './setup/machine.ts';
import { type Outcome, Scene } from './setup/scene.ts';
import { withoutReady as failpoints, type Trial, trialAt } from './setup/trials.ts';
import { kill, type Victim } from './setup/victims.ts';

const all: Victim[] = ['perchd', 'postgres', 'monitor', 'helper'];
const seed = Number(process.env.PERCH_FAILPOINT_SEED || 1);
const each = process.env.PERCH_FAILPOINT_VICTIMS ? parse(process.env.PERCH_FAILPOINT_VICTIMS) : undefined;

let scene: Scene;
const killed = new Map<Victim, number>();

beforeAll(async () => {
  scene = await Scene.start(93);
});

afterAll(async () => {
  await scene?.[Symbol.asyncDispose]();
});

if (each) {
  const pairs = failpoints.flatMap((name) => each.map((victim) => ({ name, victim })));
  test.for(pairs)('$name, $victim', async ({ name, victim }, { skip }) => {
    if (!(await tryAt(name, [victim]))) skip(`there was no ${victim} to end`);
  });
} else {
  test.each(failpoints)(`%s (PERCH_FAILPOINT_SEED=${seed})`, async (name) => {
    const turn = (failpoints.indexOf(name) + seed) % all.length;
    const victims = [...all.slice(turn), ...all.slice(0, turn)];
    if (await tryAt(name, victims)) return;
    // No tool was started: that is known afterwards only.
    const others = victims.filter((victim) => victim !== 'helper');
    expect(await tryAt(name, others)).toBeDefined();
  });
}

test('each process was there to be ended, and what nobody asked anything of is whole', async () => {
  await scene.expectOthersWhole();
  await scene.destroyAll();
  console.log(`PERCH_FAILPOINT_SEED=${seed}:`, Object.fromEntries(killed));
  expect([...killed.keys()].sort()).toEqual((each ?? all).toSorted());
});

/** @returns which of these processes has ended: the first that was there */
async function tryAt(name: Failpoint, victims: readonly Victim[]): Promise<Victim | undefined> {
  const { dataDir } = scene.instance;
  const trial = await trialAt(name, scene);
  let host: number | undefined;
  let ending: ReturnType<typeof kill> | undefined;
  const answer = await scene.armed.holdAt(name, trial, async () => {
    host = daemonPid(dataDir, 'perch-host');
    for (const victim of victims) {
      ending = kill(victim, dataDir, monitorAtHand(trial));
      // A host agent that stands still starts no tool: the next one that it starts is ended.
      if (victim === 'helper' || (await ending)) break;
    }
  });
  const ended = (await ending)?.victim;
  if (ended) killed.set(ended, (killed.get(ended) ?? 0) + 1);
  await scene.expectOutcome(trial.id, outcomesOf(trial, answer, ended), answer);
  await trial.check?.();
  const isStart = trial.after !== undefined;
  // A host agent that cannot start ends, and is started again.
  if (!(isStart && ended === 'helper')) expect(daemonPid(dataDir, 'perch-host'), 'host agent').toBe(host);
  // Who asked is told of the end, and not of what it led to.
  if (!isStart && ended === 'monitor' && 'refused' in answer)
    expect(`${answer.refused}`).toContain('The VM monitor was ended by signal 9');
  return ended;
}

/** The sandbox that is tried on, or the one that is being made; '' when there is none. */
function monitorAtHand({ id }: Trial): string {
  return id ?? [...monitors(scene.instance.dataDir).keys()].find((one) => !scene.known.includes(one)) ?? '';
}

function outcomesOf({ left, done }: Trial, answer: Answer, ended: Victim | undefined): Outcome[] {
  const isAnswered = 'made' in answer;
  const may: Outcome[] = isAnswered ? [done] : [left, done];
  // Only what runs, or is to run on, can fail with its monitor.
  const runs = (isAnswered ? done : left) === 'running';
  return ended === 'monitor' && runs ? [...may, 'failed'] : may;
}

function parse(names: string): Victim[] {
  return names.split(',').map((name) => {
    const victim = all.find((one) => one === name);
    if (!victim) throw new Error(`PERCH_FAILPOINT_VICTIMS is ${names}; there are ${all.join(', ')}.`);
    return victim;
  });
}
