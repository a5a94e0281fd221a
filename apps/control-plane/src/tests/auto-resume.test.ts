/** A paused sandbox with `auto_resume` runs again for the first request that needs it. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PerchError } from '@perch/protocol';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { eventually, TestPlane } from '../testing/index.ts';
import { StreamClient } from '../testing/stream-client.ts';

let plane: TestPlane;
beforeAll(async () => {
  plane = await TestPlane.start();
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());
afterEach(() => {
  plane.host.onPause = () => {};
  plane.host.onResume = () => {};
});

const asleep = () => plane.paused({ auto_resume: true });
const exec = (id: string, init: RequestInit = {}) =>
  plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'echo', args: ['hi'] }, ...init });
const resumes = (id: string) => plane.host.resumed.filter((one) => one.id === id).length;

test('a sandbox shows what was chosen for it, and by default is destroyed and not resumed', async () => {
  expect(await plane.create()).toMatchObject({ on_timeout: 'destroy', auto_resume: false });
  const { id } = await plane.create({ on_timeout: 'pause', auto_resume: true });
  expect(await plane.get(id)).toMatchObject({ on_timeout: 'pause', auto_resume: true });
  const wrong = await plane.fetch('/v1/sandboxes', { json: { on_timeout: 'sleep', auto_resume: 1 } });
  expect(wrong.status).toBe(400);
  expect(await wrong.text()).toMatch(/on_timeout must be one of destroy, pause.*auto_resume must be/);
});

test('many requests at once share one resume, and all are served', async () => {
  const { id } = await asleep();
  await writeFile(join(plane.dir, id, 'file'), 'content');
  const stream = await StreamClient.open(`${plane.url}/v1/sandboxes/${id}/exec/stream`, {
    'x-api-key': plane.key,
  });
  await using client = stream;
  client.send({ type: 'start', cmd: 'true' });
  const calls = [
    ...Array.from({ length: 10 }, () => exec(id)),
    plane.fetch(`/v1/sandboxes/${id}/files/read`, { json: { path: 'file' } }),
    plane.fetch(`/v1/sandboxes/${id}/files?path=.`),
    plane.fetch(`/v1/sandboxes/${id}/files/stream/write?path=new`, { method: 'POST', body: 'x' }),
  ];
  for (const answer of await Promise.all(calls)) expect([200, 204]).toContain(answer.status);
  expect((await client.rest()).at(-1)).toEqual({ type: 'exit', exit_code: 0 });
  expect(resumes(id)).toBe(1);
  expect((await plane.get(id)).status).toBe('running');
});

test('what only looks at a paused sandbox leaves it paused', async () => {
  const { id } = await asleep();
  for (const path of ['', '/logs']) {
    expect((await plane.fetch(`/v1/sandboxes/${id}${path}`)).status).toBe(200);
  }
  expect(resumes(id)).toBe(0);
  expect((await plane.get(id)).status).toBe('paused');
});

test('a call to resume it and a request that needs it share one resume', async () => {
  const { id } = await asleep();
  const answers = await Promise.all([plane.transition(id, 'resume'), exec(id), exec(id)]);
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
  expect(resumes(id)).toBe(1);
});

test('a request that comes in the middle of the pause waits for it, and is served after it', async () => {
  const { id } = await plane.create({ auto_resume: true });
  const reached = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  plane.host.onPause = async () => {
    reached.resolve();
    await release.promise;
  };
  const paused = plane.transition(id, 'pause');
  await reached.promise;
  const asked = exec(id);
  release.resolve();
  expect((await paused).status).toBe(200);
  expect((await asked).status).toBe(200);
  expect(resumes(id)).toBe(1);
});

test('a client that goes away leaves its resume to those who come after', async () => {
  const { id } = await asleep();
  const reached = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  plane.host.onResume = async () => {
    reached.resolve();
    await release.promise;
  };
  const gone = new AbortController();
  const asked = exec(id, { signal: gone.signal }).catch(() => 'aborted');
  await reached.promise;
  gone.abort();
  expect(await asked).toBe('aborted');
  const second = exec(id);
  release.resolve();
  expect((await second).status).toBe(200);
  expect(resumes(id)).toBe(1);
});

test('when it cannot be resumed all who wait are told, and the next request tries again', async () => {
  const { id } = await asleep();
  plane.host.onResume = () => {
    throw new PerchError('capacity_exhausted', 'No memory.', {
      resource: 'memory',
      requested: 2,
      available: 1,
    });
  };
  const answers = await Promise.all([exec(id), exec(id), exec(id)]);
  for (const answer of answers) {
    expect(answer.status).toBe(503);
    expect(answer.headers.get('retry-after')).toBe('5');
  }
  expect((await plane.get(id)).status).toBe('paused');
  plane.host.onResume = () => {};
  expect((await exec(id)).status).toBe(200);
});

test('a destroy in the middle of the resume ends it for those who wait', async () => {
  const { id } = await asleep();
  const reached = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  plane.host.onResume = async () => {
    reached.resolve();
    await release.promise;
  };
  const asked = exec(id);
  await reached.promise;
  const destroyed = plane.fetch(`/v1/sandboxes/${id}`, { method: 'DELETE' });
  await eventually(() => plane.host.deleted.includes(id));
  release.resolve();
  expect((await destroyed).status).toBe(204);
  expect((await asked).status).toBe(409);
  expect((await plane.get(id)).status).toBe('destroyed');
});
