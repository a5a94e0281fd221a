/** Pauses and resumes that perchd or its host did not live through: what each side says is brought together. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostSandbox } from '@perch/protocol';
import { sql } from 'kysely';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { inDatabase } from '../testing/database.ts';
import { eventually, TestPlane } from '../testing/index.ts';

let plane: TestPlane;
beforeAll(async () => {
  plane = await TestPlane.start();
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());
afterEach(() => {
  plane.host.onPause = () => {};
  plane.host.onResume = () => {};
  plane.host.losesAnswers = false;
});

const token = 'ab'.repeat(32);
const exec = (id: string) => plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'echo', args: ['hi'] } });
const becomes = (id: string, status: string) =>
  eventually(async () => (await plane.get(id)).status === status);

interface Found {
  /** The content of the row. */
  row: 'running' | 'pausing' | 'paused' | 'resuming';
  host: Partial<HostSandbox>;
  becomes: string;
}

/** The state that perchd finds at its start, after a crash at any point, and its way on from there. */
const found: [string, Found][] = [
  [
    'a pause that its host never heard of',
    { row: 'pausing', host: { status: 'running' }, becomes: 'running' },
  ],
  ['a pause that its host has done', { row: 'pausing', host: { status: 'paused' }, becomes: 'paused' }],
  [
    'a pause that its host did after perchd gave it up',
    { row: 'running', host: { status: 'paused' }, becomes: 'paused' },
  ],
  [
    'a resume that its host never heard of',
    { row: 'resuming', host: { status: 'paused' }, becomes: 'paused' },
  ],
  [
    'a resume that its host has done',
    { row: 'resuming', host: { status: 'running', generation: 2 }, becomes: 'running' },
  ],
  [
    'a resume that its host did after perchd gave it up',
    { row: 'paused', host: { status: 'running', generation: 2 }, becomes: 'running' },
  ],
  [
    'a pause that its host failed at',
    { row: 'pausing', host: { status: 'failed', reason: 'it burned' }, becomes: 'failed' },
  ],
  [
    'a resume that its host failed at',
    { row: 'resuming', host: { status: 'failed', generation: 2, reason: 'it burned' }, becomes: 'failed' },
  ],
];

test('a perchd that is started again settles what it finds half done', async () => {
  const ids = await Promise.all(found.map(async () => (await plane.create({ timeout_sec: 1000 })).id));
  await plane.down();
  await inDatabase(plane.config, async (db) => {
    for (const [i, [, { row, host }]] of found.entries()) {
      const next = row === 'resuming' || row === 'paused' ? token : null;
      await sql`UPDATE sandboxes SET status = ${row}, next_access_token = ${next} WHERE id = ${ids[i]}`.execute(
        db,
      );
      plane.host.change(ids[i] ?? '', { address: host.status === 'running' ? '127.0.0.3' : null, ...host });
    }
  });
  await plane.up();
  for (const [i, [name, { row, host, becomes: status }]] of found.entries()) {
    const id = ids[i] ?? '';
    await eventually(async () => (await plane.get(id)).status === status, 10_000).catch(() => {});
    const now = await plane.get(id);
    expect(now.status, name).toBe(status);
    expect(now.expires_at === null, name).toBe(status === 'paused');
    if (status === 'running') {
      expect((await exec(id)).status, name).toBe(200);
      const { accessToken, address } = plane.connections.at(-1) ?? {};
      expect(accessToken === token, name).toBe(host.generation === 2);
      expect(address, name).toBe(host.generation === 2 ? '127.0.0.3' : '127.0.0.1');
    }
    if (status === 'paused') {
      expect((await plane.transition(id, 'resume')).status, name).toBe(200);
      const { body } = plane.host.resumed.at(-1) ?? {};
      expect(body?.generation, name).toBe(2);
      expect(body?.access_token === token, name).toBe(row === 'resuming');
    }
  }
});

test('what its host lost is failed, also when it was paused', async () => {
  const ids = [(await plane.paused()).id, (await plane.paused()).id, (await plane.create()).id];
  await plane.down();
  await inDatabase(plane.config, (db) =>
    sql`UPDATE sandboxes SET status = 'resuming' WHERE id = ${ids[1]}`.execute(db),
  );
  for (const id of ids) plane.host.sandboxes.delete(id);
  await plane.up();
  for (const id of ids) {
    await becomes(id, 'failed');
    expect((await plane.get(id)).reason).toBe('Its host no longer has it.');
  }
});

test('a late word of an earlier state does not wake what is paused', async () => {
  const { id } = await plane.paused();
  plane.host.change(id, { status: 'running' });
  await sleep(300);
  expect((await plane.get(id)).status).toBe('paused');
  plane.host.change(id, { status: 'paused' });
  await plane.transition(id, 'resume');
  plane.host.change(id, { status: 'paused', generation: 1 });
  await sleep(300);
  expect((await plane.get(id)).status).toBe('running');
});

test.each([
  ['pause', 'paused'],
  ['resume', 'running'],
] as const)(
  'a %s whose answer is lost is told as unknown, and is done all the same',
  async (what, status) => {
    const { id } = what === 'pause' ? await plane.create() : await plane.paused();
    plane.host.losesAnswers = true;
    const answer = await plane.transition(id, what);
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({ error: { code: 'host_unavailable' } });
    await becomes(id, status);
  },
);

test.each([
  ['pause', 'onPause', 'pausing', 'paused'],
  ['resume', 'onResume', 'resuming', 'running'],
] as const)('a perchd that ends in the middle of a %s finds it done', async (what, hook, during, after) => {
  const { id } = what === 'pause' ? await plane.create() : await plane.paused();
  const reached = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  plane.host[hook] = async () => {
    reached.resolve();
    await release.promise;
  };
  const gone = new AbortController();
  const asked = plane.transition(id, what, { signal: gone.signal }).catch(() => 'aborted');
  await reached.promise;
  gone.abort();
  await asked;
  await plane.down();
  await plane.up();
  expect((await plane.get(id)).status).toBe(during);
  expect((await exec(id)).status).toBe(409);
  release.resolve();
  await becomes(id, after);
  if (what === 'resume') expect((await exec(id)).status).toBe(200);
});

test('without its host a pause is unknown, and settled when the host is back', async () => {
  const { id } = await plane.create();
  await plane.host.stop();
  expect((await plane.transition(id, 'pause')).status).toBe(503);
  expect((await plane.get(id)).status).toBe('pausing');
  for (const what of ['pause', 'resume'] as const) {
    const answer = await plane.transition(id, what);
    expect(answer.status).toBe(409);
    expect(await answer.text()).toContain(`is pausing, not ${what === 'pause' ? 'running' : 'paused'}`);
  }
  await plane.host.start();
  await becomes(id, 'running');
  expect((await exec(id)).status).toBe(200);
});

test('one that is left half-way can be destroyed', async () => {
  const { id } = await plane.create();
  await plane.host.stop();
  await plane.transition(id, 'pause');
  await plane.host.start();
  expect((await plane.fetch(`/v1/sandboxes/${id}`, { method: 'DELETE' })).status).toBe(204);
  expect(plane.host.sandboxes.has(id)).toBe(false);
});

test('a pause that the host thaws by itself after a crash lets it run on', async () => {
  const { id } = await plane.create();
  plane.host.onPause = async () => {
    await plane.host.stop();
  };
  expect((await plane.transition(id, 'pause')).status).toBe(503);
  plane.host.onPause = () => {};
  plane.host.change(id, { status: 'running', address: '127.0.0.1' });
  await plane.host.start();
  await becomes(id, 'running');
  expect((await exec(id)).status).toBe(200);
});

test('the database dies in the middle of a pause and of a resume, and both are done', async () => {
  const { id } = await plane.create();
  const killDatabase = async () => {
    process.kill(plane.postgresPid ?? 0, 'SIGKILL');
    await sleep(50);
  };
  plane.host.onPause = killDatabase;
  expect((await plane.transition(id, 'pause')).status).toBe(200);
  plane.host.onResume = killDatabase;
  expect((await plane.transition(id, 'resume')).status).toBe(200);
  expect((await exec(id)).status).toBe(200);
});
