/** `on_timeout: pause`: the end of the time pauses, and never destroys. */
import { setTimeout as sleep } from 'node:timers/promises';
import { PerchError } from '@perch/protocol';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { eventually, TestPlane } from '../testing/index.ts';

let plane: TestPlane;
beforeAll(async () => {
  plane = await TestPlane.start();
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());
afterEach(() => {
  plane.host.onPause = () => {};
});

const short = { timeout_sec: 1, on_timeout: 'pause', auto_resume: true };
const exec = (id: string) => plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'echo', args: ['hi'] } });
/** A sandbox whose time, a second, runs as soon as it is no longer used: by a command, until it is paused. */
async function usedUntilPaused(body: object = {}): Promise<string> {
  const { id } = await plane.create(body);
  void plane
    .fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'sleep', args: ['60'] } })
    .then((answer) => answer.text());
  await eventually(() => plane.guests.get(id)?.children.size);
  await plane.endAfter(id, 1);
  return id;
}

async function pause(id: string): Promise<void> {
  expect((await plane.transition(id, 'pause')).status).toBe(200);
}

const becomes = (id: string, status: string) =>
  eventually(async () => (await plane.get(id)).status === status);

test('an idle sandbox sleeps, wakes for a request, and sleeps again', async () => {
  const { id } = await plane.create(short);
  await becomes(id, 'paused');
  expect(await plane.get(id)).toMatchObject({ expires_at: null });
  expect(await (await plane.fetch(`/v1/sandboxes/${id}/logs`)).text()).toContain('its time was over');
  expect((await exec(id)).status).toBe(200);
  await becomes(id, 'paused');
});

test('no time runs while it is paused, whatever the end of the time would do', async () => {
  const ids = [await usedUntilPaused(), await usedUntilPaused({ on_timeout: 'pause', auto_resume: true })];
  for (const id of ids) await pause(id);
  await sleep(2_000);
  for (const id of ids) expect((await plane.get(id)).status).toBe('paused');
});

test('the end of the time in the middle of a pause waits for it', async () => {
  const id = await usedUntilPaused();
  plane.host.onPause = () => sleep(1_500);
  await pause(id);
  expect((await plane.get(id)).status).toBe('paused');
});

test('a pause that fails is logged and put off by a minute; the sandbox runs on', async () => {
  const { id } = await plane.create(short);
  plane.host.onPause = () => {
    throw new PerchError('pause_failed', 'No space.', { id, reason: 'no space' });
  };
  await eventually(() => plane.logLines.some((line) => line.includes(id) && line.includes('not paused yet')));
  await becomes(id, 'running');
  const { expires_at } = await plane.get(id);
  expect(Math.abs(Date.parse(expires_at ?? '') - Date.now() - 60_000)).toBeLessThan(30_000);
  expect((await exec(id)).status).toBe(200);
});
