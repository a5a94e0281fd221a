/**
 * perchd ends at each of its named places, while the operation that gets there is under way, and is started again.
 * Each sandbox is as before or as asked for, what was acknowledged is there, and neither the host nor the database
 * has more.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { cases, controlTrialAt } from './setup/control-trials.ts';
import { expectRows } from './setup/database.ts';
import { daemonPid } from './setup/machine.ts';
import { inRounds } from './setup/rounds.ts';
import { Scene } from './setup/scene.ts';

let scene: Scene;

beforeAll(async () => {
  scene = await Scene.start(95);
});

afterAll(async () => {
  await scene?.[Symbol.asyncDispose]();
});

test.each(inRounds(cases))('$place by $by', async (one) => {
  const { dataDir } = scene.instance;
  const host = daemonPid(dataDir, 'perch-host');
  const trial = await controlTrialAt(one, scene);
  const answer = await scene.armedControl.endAt(one.place, trial);
  await scene.expectOutcome(trial.id, trial.left, answer);
  await expectRows(scene.instance);
  expect(daemonPid(dataDir, 'perch-host'), 'host agent').toBe(host);
});

test('what ran through all of them is whole, and nothing is left in the end', async () => {
  await scene.expectOthersWhole();
  await scene.destroyAll();
});
