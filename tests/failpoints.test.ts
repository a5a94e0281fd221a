/**
 * The host agent ends at each of its named places, while the operation that gets there is under way, and is
 * started again. The promises hold afterwards.
 */
import { afterAll, beforeAll, test } from 'vitest';
import { inRounds } from './setup/rounds.ts';
import { Scene } from './setup/scene.ts';
import { proveEndAt, withoutReady } from './setup/trials.ts';

let scene: Scene;

beforeAll(async () => {
  scene = await Scene.start(84);
});

afterAll(async () => {
  await scene?.[Symbol.asyncDispose]();
});

test.each(inRounds(withoutReady))('%s', (name) => proveEndAt(name, scene));

test('what ran through all of them is whole, and what was paused before goes on', async () => {
  await scene.expectOthersWhole();
  await scene.destroyAll();
});
