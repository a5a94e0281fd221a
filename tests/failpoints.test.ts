/**
 * The host agent ends at each of its named places, while the operation that gets there is under way, and is
 * started again. The promises hold afterwards.
 */
import { afterAll, beforeAll, test } from 'vitest';
import { inRounds } from './setup/rounds.ts';
import { Scene } from './setup/scene.ts';
import { trialAt, withoutReady } from './setup/trials.ts';

let scene: Scene;

beforeAll(async () => {
  scene = await Scene.start(84);
});

afterAll(async () => {
  await scene?.[Symbol.asyncDispose]();
});

test.each(inRounds(withoutReady))('%s', async (name) => {
  const trial = await trialAt(name, scene);
  await scene.armed.endAt(name, trial);
  // Of what was on its way nobody is told, so none of it stays.
  await scene.expectOutcome(trial.id, [trial.left], { made: [] });
  await trial.check?.();
  if (trial.template) await scene.expectStarts(trial.template);
});

test('what ran through all of them is whole, and what was paused before goes on', async () => {
  await scene.expectOthersWhole();
  await scene.destroyAll();
});
