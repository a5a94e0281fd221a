/** Parts that come apart are put together again: the database, perchd itself, the host agent. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { newSandboxId, type Sandbox } from '@perch/protocol';
import { sql } from 'kysely';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startControlPlane } from '../control-plane.ts';
import { inDatabase } from '../testing/database.ts';
import { eventually, FakeHost, TestPlane } from '../testing/index.ts';

let plane: TestPlane;
beforeAll(async () => {
  plane = await TestPlane.start();
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());

const exec = (id: string) => plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'echo', args: ['hi'] } });

test('a database that is killed is started again; meanwhile commands run and lists are 503', async () => {
  const { id } = await plane.create();
  const pid = plane.postgresPid ?? 0;
  process.kill(pid, 'SIGKILL');
  const statuses = new Set<number>();
  const refused: Response[] = [];
  await eventually(async () => {
    const answer = await plane.fetch('/v1/sandboxes');
    statuses.add(answer.status);
    if (answer.status === 503) refused.push(answer);
    expect((await exec(id)).status).toBe(200);
    return answer.status === 200 && refused.length > 0;
  });
  expect(statuses).toEqual(new Set([200, 503]));
  expect(refused[0]?.headers.get('retry-after')).toBe('1');
  expect(await refused[0]?.json()).toMatchObject({ error: { code: 'database_unavailable' } });
  expect(plane.postgresPid).not.toBe(pid);
  expect((await plane.get(id)).status).toBe('running');
});

test('a create outlives the death of the database in its middle', async () => {
  plane.host.onCreate = async () => {
    process.kill(plane.postgresPid ?? 0, 'SIGKILL');
    await sleep(50);
  };
  const { id, status } = await plane.create();
  plane.host.onCreate = () => {};
  expect(status).toBe('running');
  expect((await plane.get(id)).status).toBe('running');
});

test('perchd that is started again answers for the same sandboxes', async () => {
  const short = await plane.create({ timeout_sec: 4, timeout_mode: 'fixed' });
  const long = await plane.create();
  await plane.down();
  await plane.up();
  expect((await plane.get(long.id)).status).toBe('running');
  expect(await (await exec(long.id)).text()).toContain('hi');
  await eventually(async () => (await plane.get(short.id)).status === 'destroyed');
});

test('what the host lost while perchd was down is failed, and what nobody knows is destroyed', async () => {
  const { id } = await plane.create();
  await plane.down();
  plane.host.sandboxes.delete(id);
  const stranger = newSandboxId();
  plane.host.add(stranger);
  await plane.up();
  await eventually(async () => (await plane.get(id)).status === 'failed');
  expect((await plane.get(id)).reason).toBe('Its host no longer has it.');
  await eventually(() => !plane.host.sandboxes.has(stranger));
});

test('a create that a crash cut off is destroyed, or waits for the repeat of its Idempotency-Key', async () => {
  const headers = { 'idempotency-key': 'crash' };
  const ask = async () =>
    (await (await plane.fetch('/v1/sandboxes', { json: {}, headers })).json()) as Sandbox;
  const asked = (await ask()).id;
  const { id: lost } = await plane.create();
  await plane.down();
  await inDatabase(plane.config, async (db) => {
    await sql`UPDATE idempotency_keys SET answered = false WHERE sandbox_id = ${asked}`.execute(db);
    await sql`UPDATE sandboxes SET status = 'creating', started_at = NULL, expires_at = NULL, host_ip = NULL
      WHERE id IN (${asked}, ${lost})`.execute(db);
  });
  await plane.up();
  expect(await ask()).toMatchObject({ id: asked, status: 'running', host_ip: '127.0.0.1' });
  await eventually(async () => (await plane.get(lost)).status === 'destroyed');
  expect(plane.host.sandboxes.has(lost)).toBe(false);
});

test('a destroy that the host did not answer is finished when it does', async () => {
  const { id } = await plane.create();
  await plane.host.stop();
  const answer = await plane.fetch(`/v1/sandboxes/${id}`, { method: 'DELETE' });
  expect(answer.status).toBe(503);
  expect((await plane.get(id)).status).toBe('destroying');
  expect((await exec(id)).status).toBe(409);
  await plane.host.start();
  await eventually(async () => (await plane.get(id)).status === 'destroyed');
  expect(plane.host.sandboxes.has(id)).toBe(false);
});

test('without its host perchd lists and reads, and says what it cannot do', async () => {
  const { id } = await plane.create();
  await plane.host.stop();
  expect((await plane.get(id)).status).toBe('running');
  expect((await exec(id)).status).toBe(200);
  const create = await plane.fetch('/v1/sandboxes', { json: {} });
  expect(create.status).toBe(503);
  expect(create.headers.get('retry-after')).not.toBeNull();
  expect(await create.json()).toMatchObject({ error: { code: 'host_unavailable' } });
  await eventually(async () => (await fetch(`${plane.url}/health`)).status === 503);
  expect(await (await plane.fetch('/v1/hosts')).json()).toMatchObject({ items: [{ status: 'unreachable' }] });
  await plane.host.start();
  await eventually(async () => (await fetch(`${plane.url}/health`)).status === 200);
});

test('a second perchd on the same directory is refused', async () => {
  const second = startControlPlane(plane.config, pino({ level: 'silent' }));
  await expect(second).rejects.toThrow(/already works in .*: stop it, or set another PERCH_DATA_DIR/);
});

test('a shutdown ends streams and requests in good time', async () => {
  const { id } = await plane.create();
  const asked = plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'sleep', args: ['1'] } });
  await eventually(() => plane.guests.get(id)?.children.size);
  await plane.down();
  expect(plane.logLines.filter((line) => line.includes('cutting requests'))).toEqual([]);
  expect((await asked).status).toBe(200);
  await plane.up();
});

test('each of two hosts is asked for its own sandboxes, and judged by those alone', async () => {
  const id = 'other';
  const socket = join(plane.dir, 'other.sock');
  await using other = await new FakeHost(socket, id).start();
  const [here, lostHere, there, lostThere] = [
    (await plane.create()).id,
    (await plane.create()).id,
    (await plane.create()).id,
    (await plane.create()).id,
  ];
  await plane.down();
  await inDatabase(plane.config, (db) =>
    sql`UPDATE sandboxes SET host_id = ${id} WHERE id IN (${there}, ${lostThere})`.execute(db),
  );
  for (const gone of [lostHere, there, lostThere]) plane.host.sandboxes.delete(gone);
  other.add(there);
  plane.config.hosts.push({ id, socket });
  await plane.up();

  for (const lost of [lostHere, lostThere]) {
    await eventually(async () => (await plane.get(lost)).status === 'failed');
  }
  expect([(await plane.get(here)).status, (await plane.get(there)).status]).toEqual(['running', 'running']);

  plane.host.change(there, { status: 'failed', reason: 'late' });
  await eventually(() => plane.logLines.some((line) => line.includes('a sandbox of another one')));
  expect((await plane.get(there)).status).toBe('running');
  expect(plane.host.deleted).not.toContain(there);

  await other.stop();
  expect((await plane.transition(there, 'pause')).status).toBe(503);
  expect((await plane.transition(here, 'pause')).status).toBe(200);
  await other.start();
  await eventually(async () => (await plane.get(there)).status === 'running');
  for (const what of ['pause', 'resume'] as const) {
    expect((await plane.transition(there, what)).status).toBe(200);
  }
  expect((await plane.fetch(`/v1/sandboxes/${there}`, { method: 'DELETE' })).status).toBe(204);
  expect(other.paused.map((asked) => asked.id)).toEqual([there]);
  expect(other.resumed.map((asked) => asked.id)).toEqual([there]);
  expect(other.deleted).toEqual([there]);
  await plane.down();
  plane.config.hosts.pop();
  await inDatabase(plane.config, (db) => sql`DELETE FROM sandboxes WHERE host_id = ${id}`.execute(db));
  await plane.up();
});
