/**
 * The host agent ends at each named place of making a guest stand ready, and of making one a sandbox, and is started
 * again. The promises hold afterwards, and another guest stands ready.
 */
import { afterAll, beforeAll, test } from 'vitest';
import { inRounds } from './setup/rounds.ts';
import { Scene } from './setup/scene.ts';
import { proveEndAt, withReady } from './setup/trials.ts';

let scene: Scene;

beforeAll(async () => {
  // The shape of the ready guests is kept, too; and no others come.
  const env = { PERCH_READY: '1', PERCH_READY_MAX: '1', PERCH_BOOT_SNAPSHOTS: '8' };
  scene = await Scene.start(94, env);
});

afterAll(async () => {
  await scene?.[Symbol.asyncDispose]();
});

test.each(inRounds(withReady))('%s', (name) => proveEndAt(name, scene));

test('what ran through all of them is whole, and what was paused before goes on', async () => {
  await scene.expectOthersWhole();
});
