import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PerchError, type Sandbox, type SandboxList, Sandbox as SandboxSchema } from '@perch/protocol';
import { Check } from 'typebox/value';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually, TestPlane } from '../testing/index.ts';

let plane: TestPlane;
beforeAll(async () => {
  plane = await TestPlane.start();
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());

const destroy = (id: string) => plane.fetch(`/v1/sandboxes/${id}`, { method: 'DELETE' });
const list = async (query: string) =>
  (await (await plane.fetch(`/v1/sandboxes${query}`)).json()) as SandboxList;

test.each<[string, RequestInit]>([
  ['no body', {}],
  ['an empty body', { headers: { 'content-type': 'application/json' }, body: '' }],
])('a create with %s has all defaults', async (_, init) => {
  const answer = await plane.fetch('/v1/sandboxes', { method: 'POST', ...init });
  expect(answer.status).toBe(201);
  const { id, memory_mb } = (await answer.json()) as Sandbox;
  expect(memory_mb).toBe(512);
  await plane.fetch(`/v1/sandboxes/${id}`, { method: 'DELETE' });
});

test('a sandbox is created with its defaults, read, and destroyed', async () => {
  const sandbox = await plane.create();
  expect(Check(SandboxSchema, sandbox)).toBe(true);
  expect(sandbox).toMatchObject({
    status: 'running',
    template: 'base',
    vcpus: 1,
    memory_mb: 512,
    disk_mb: 5120,
    timeout_sec: 300,
    timeout_mode: 'idle',
    metadata: {},
    host_id: 'local',
    host_ip: '127.0.0.1',
  });
  expect(sandbox.id).toMatch(/^sb[a-z0-9]{18}$/);
  expect(Date.parse(sandbox.expires_at ?? '') - Date.parse(sandbox.started_at ?? '')).toBe(300_000);
  expect(await plane.get(sandbox.id)).toEqual(sandbox);
  expect((await destroy(sandbox.id)).status).toBe(204);
  expect((await destroy(sandbox.id)).status).toBe(204);
  expect(await plane.get(sandbox.id)).toMatchObject({ status: 'destroyed', host_ip: null, expires_at: null });
  expect(plane.host.sandboxes.has(sandbox.id)).toBe(false);
});

test('the host is told all, with the request id', async () => {
  const body = { vcpus: 2, memory_mb: 256, disk_mb: 2048, env: { A: 'b' }, metadata: { team: 'x' } };
  const answer = await plane.fetch('/v1/sandboxes', { json: body, headers: { 'x-request-id': 'req-7' } });
  expect(answer.headers.get('x-request-id')).toBe('req-7');
  const { id } = (await answer.json()) as Sandbox;
  expect(plane.host.created.find((one) => one.id === id)).toMatchObject({
    requestId: 'req-7',
    body: { vcpus: 2, memory_mb: 256, disk_mb: 2048, env: { A: 'b' }, generation: 1 },
  });
  await destroy(id);
});

test('the access token is in no answer and no log line', async () => {
  const sandbox = await plane.create();
  const token = plane.host.created.find((one) => one.id === sandbox.id)?.body.access_token ?? '';
  expect(token).toMatch(/^[0-9a-f]{64}$/);
  const texts = await Promise.all(
    ['', '/logs'].map(async (path) => (await plane.fetch(`/v1/sandboxes/${sandbox.id}${path}`)).text()),
  );
  expect([...texts, ...plane.logLines].join('')).not.toContain(token);
  expect(plane.logLines.join('')).not.toContain(plane.key);
  await destroy(sandbox.id);
});

test('a list runs from the newest to the oldest, page by page, without gap or repeat', async () => {
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.push((await plane.create({ metadata: { page: 'a' } })).id);
  const seen: string[] = [];
  let query = '?metadata.page=a&limit=2';
  for (let pages = 1; ; pages++) {
    const { items, next_cursor } = await list(query);
    seen.push(...items.map(({ id }) => id));
    if (next_cursor === null) {
      expect(pages).toBe(3);
      break;
    }
    query = `?metadata.page=a&limit=2&cursor=${next_cursor}`;
  }
  expect(seen).toEqual(ids.reverse());
  for (const id of ids) await destroy(id);
});

test('a page ends with 4 MiB of labels, and the next one begins there', async () => {
  const value = '€'.repeat(4096);
  const labels = Object.fromEntries(Array.from({ length: 63 }, (_, i) => [`long-${i}`, value]));
  const ids: string[] = [];
  for (let i = 0; i < 8; i++) ids.push((await plane.create({ metadata: { ...labels, long: 'a' } })).id);
  ids.reverse();
  const whole = await list('?metadata.long=a&limit=1000');
  // The sixth, of 757 KiB each, is the one with which they reach 4 MiB.
  expect(whole.items.map(({ id }) => id)).toEqual(ids.slice(0, 6));
  const rest = await list(`?metadata.long=a&limit=1000&cursor=${whole.next_cursor}`);
  expect(rest.items.map(({ id }) => id)).toEqual(ids.slice(6));
  expect(rest.next_cursor).toBeNull();
  const few = await list('?metadata.long=a&limit=6');
  expect(few.items).toHaveLength(6);
  expect(few.next_cursor).toBe(whole.next_cursor);

  const named: string[] = [];
  for (let token: string | null = ''; token !== null; ) {
    const page = await plane.fetch(`/v2/sandboxes?metadata=long%3Da&order=asc&nextToken=${token}`);
    named.push(...((await page.json()) as { sandboxID: string }[]).map(({ sandboxID }) => sandboxID));
    token = page.headers.get('x-next-token');
    expect(named).toHaveLength(token === null ? 8 : 6);
  }
  expect(named).toEqual(ids.toReversed());
  for (const id of ids) await destroy(id);
});

test('a list is filtered by labels, all of which must match, and by status', async () => {
  const a = await plane.create({ metadata: { team: 'red', 'a b': "it's", n: '1' } });
  const b = await plane.create({ metadata: { team: 'red', n: '2' } });
  const ids = async (query: string) => (await list(query)).items.map(({ id }) => id);
  expect(await ids('?metadata.team=red')).toEqual([b.id, a.id]);
  expect(await ids('?metadata.team=red&metadata.n=1')).toEqual([a.id]);
  expect(await ids(`?metadata.${encodeURIComponent('a b')}=${encodeURIComponent("it's")}`)).toEqual([a.id]);
  expect(await ids('?metadata.team=blue')).toEqual([]);
  await destroy(a.id);
  expect(await ids('?metadata.team=red')).toEqual([b.id]);
  expect(await ids('?metadata.team=red&status=destroyed')).toEqual([a.id]);
  expect(await ids('?metadata.team=red&status=running,destroyed')).toEqual([b.id, a.id]);
  await destroy(b.id);
});

test('a repeat with the same Idempotency-Key gets the same sandbox', async () => {
  const headers = { 'idempotency-key': 'once' };
  const ask = (json: object) => plane.fetch('/v1/sandboxes', { json, headers });
  const made = plane.host.created.length;
  const answers = await Promise.all([ask({}), ask({ vcpus: 1 }), ask({})]);
  const bodies = (await Promise.all(answers.map((answer) => answer.json()))) as Sandbox[];
  expect(answers.map(({ status }) => status)).toEqual([201, 201, 201]);
  expect(new Set(bodies.map(({ id }) => id)).size).toBe(1);
  expect(await (await ask({})).json()).toEqual(bodies[0]);
  expect(plane.host.created.length).toBe(made + 1);
  const other = await ask({ vcpus: 2 });
  expect(other.status).toBe(422);
  expect(await other.text()).toContain('idempotency_mismatch');
  await destroy(bodies[0]?.id ?? '');
});

test('a repeat after a destroy gets the sandbox as it is now', async () => {
  const ask = async () => {
    const answer = await plane.fetch('/v1/sandboxes', { json: {}, headers: { 'idempotency-key': 'gone' } });
    return [answer.status, (await answer.json()) as Sandbox] as const;
  };
  const [, { id }] = await ask();
  await destroy(id);
  expect(await ask()).toEqual([201, await plane.get(id)]);
  expect((await plane.get(id)).status).toBe('destroyed');
});

test('a create without a body makes one with all defaults', async () => {
  const answer = await plane.fetch('/v1/sandboxes', { method: 'POST' });
  expect(answer.status).toBe(201);
  const sandbox = (await answer.json()) as Sandbox;
  expect(sandbox).toMatchObject({ status: 'running', template: 'base', vcpus: 1 });
  await destroy(sandbox.id);
});

test('after an error the same Idempotency-Key may try again', async () => {
  const headers = { 'idempotency-key': 'again' };
  plane.host.onCreate = () => {
    throw new PerchError('capacity_exhausted', 'No memory.', {
      resource: 'memory',
      requested: 1,
      available: 0,
    });
  };
  expect((await plane.fetch('/v1/sandboxes', { json: {}, headers })).status).toBe(503);
  plane.host.onCreate = () => {};
  const answer = await plane.fetch('/v1/sandboxes', { json: {}, headers });
  expect(answer.status).toBe(201);
  await destroy(((await answer.json()) as Sandbox).id);
});

test('more than the host has is 503 with Retry-After, and leaves nothing', async () => {
  plane.host.onCreate = () => {
    throw new PerchError('capacity_exhausted', 'No memory.', {
      resource: 'memory',
      requested: 1,
      available: 0,
    });
  };
  const answer = await plane.fetch('/v1/sandboxes', { json: { metadata: { full: '1' } } });
  plane.host.onCreate = () => {};
  expect(answer.status).toBe(503);
  expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(await answer.json()).toMatchObject({ error: { code: 'capacity_exhausted' } });
  const all = await list('?metadata.full=1&status=creating,running,failed,destroying,destroyed');
  expect(all.items).toEqual([]);
});

test('a create that fails half-way is taken back', async () => {
  plane.host.onCreate = (id) => {
    plane.host.add(id);
    throw new PerchError('guest_unavailable', 'The guest did not boot.', { id });
  };
  const answer = await plane.fetch('/v1/sandboxes', { json: { metadata: { half: '1' } } });
  plane.host.onCreate = () => {};
  expect(answer.status).toBe(502);
  const gone = await eventually(async () => (await list('?metadata.half=1&status=destroyed')).items[0]);
  expect(plane.host.sandboxes.has(gone.id)).toBe(false);
  expect(await (await plane.fetch(`/v1/sandboxes/${gone.id}/logs`)).text()).toContain('did not boot');
});

test('a client that goes away in the middle of a create leaves no sandbox', async () => {
  const release = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<string>();
  plane.host.onCreate = async (id) => {
    arrived.resolve(id);
    await release.promise;
  };
  const gone = new AbortController();
  const asked = plane.fetch('/v1/sandboxes', { json: {}, signal: gone.signal }).catch(() => 'aborted');
  const id = await arrived.promise;
  gone.abort();
  expect(await asked).toBe('aborted');
  await eventually(() => plane.host.deleted.includes(id));
  release.resolve();
  plane.host.onCreate = () => {};
  await eventually(async () => (await plane.get(id)).status === 'destroyed');
  expect(plane.host.sandboxes.has(id)).toBe(false);
});

test('with an Idempotency-Key the sandbox waits for the repeat', async () => {
  const release = Promise.withResolvers<void>();
  plane.host.onCreate = () => release.promise;
  const headers = { 'idempotency-key': 'lost' };
  const gone = new AbortController();
  const asked = plane
    .fetch('/v1/sandboxes', { json: {}, headers, signal: gone.signal })
    .catch(() => 'aborted');
  await eventually(() => plane.host.created.length > 0);
  await sleep(50);
  gone.abort();
  await asked;
  release.resolve();
  plane.host.onCreate = () => {};
  const answer = await plane.fetch('/v1/sandboxes', { json: {}, headers });
  const { id, status } = (await answer.json()) as Sandbox;
  expect(status).toBe('running');
  await destroy(id);
});

test('a sandbox that is destroyed while it is created is destroyed, and its creator told', async () => {
  const release = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<string>();
  plane.host.onCreate = async (id) => {
    arrived.resolve(id);
    await release.promise;
  };
  const asked = plane.fetch('/v1/sandboxes', { json: {} });
  const id = await arrived.promise;
  const destroyed = destroy(id);
  await eventually(() => plane.host.deleted.includes(id));
  release.resolve();
  plane.host.onCreate = () => {};
  expect((await asked).status).toBe(409);
  expect((await destroyed).status).toBe(204);
  expect(plane.host.sandboxes.has(id)).toBe(false);
  expect((await plane.get(id)).status).toBe('destroyed');
});

test('a sandbox ends when its time is over', async () => {
  const { id } = await plane.create({ timeout_sec: 1, timeout_mode: 'fixed' });
  await eventually(() => !plane.host.sandboxes.has(id));
  await eventually(async () => (await plane.get(id)).status === 'destroyed');
  expect(await (await plane.fetch(`/v1/sandboxes/${id}/logs`)).text()).toContain('its time was over');
});

test('timeout counts from now and moves the end both ways', async () => {
  const { id } = await plane.create({ timeout_sec: 1000 });
  const set = await plane.fetch(`/v1/sandboxes/${id}/timeout`, { json: { timeout_sec: 2000 } });
  const { expires_at, timeout_sec } = (await set.json()) as Sandbox;
  expect(timeout_sec).toBe(2000);
  expect(Math.abs(Date.parse(expires_at ?? '') - Date.now() - 2_000_000)).toBeLessThan(100_000);
  await plane.fetch(`/v1/sandboxes/${id}/timeout`, { json: { timeout_sec: 1 } });
  await eventually(() => !plane.host.sandboxes.has(id));
});

test('use moves the end of an idle sandbox and not of a fixed one, and a running command is use', async () => {
  const idle = await plane.create({ timeout_mode: 'idle' });
  const fixed = await plane.create({ timeout_mode: 'fixed' });
  const run = (id: string) =>
    plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'cat', args: ['fifo'] } });
  for (const { id } of [idle, fixed]) execFileSync('mkfifo', [join(plane.dir, id, 'fifo')]);
  const [first, second] = [run(idle.id), run(fixed.id)];
  for (const { id } of [idle, fixed]) {
    await eventually(() => plane.guests.get(id)?.children.size);
    await plane.endAfter(id, 1);
  }
  // The time of the other was over before.
  expect((await second).status).toBe(409);
  await writeFile(join(plane.dir, idle.id, 'fifo'), '');
  expect((await first).status).toBe(200);
  await eventually(() => !plane.host.sandboxes.has(idle.id));
});

test('the death of a VM is told at once, with its reason', async () => {
  const { id } = await plane.create();
  const running = plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'sleep', args: ['60'] } });
  await eventually(() => plane.guests.get(id)?.children.size);
  plane.host.change(id, { status: 'failed', reason: 'The VM was killed by signal 9.' });
  await eventually(async () => (await plane.get(id)).status === 'failed');
  expect(await plane.get(id)).toMatchObject({ reason: 'The VM was killed by signal 9.' });
  const answer = await running;
  expect(answer.status).toBe(409);
  expect(await answer.text()).toContain('killed by signal 9');
  const after = await plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'true' } });
  expect(await after.json()).toMatchObject({ error: { code: 'sandbox_failed' } });
  expect((await destroy(id)).status).toBe(204);
});

test('logs hold the life of the sandbox and its console', async () => {
  const { id } = await plane.create();
  const logs = (await (await plane.fetch(`/v1/sandboxes/${id}/logs`)).json()) as {
    events: { status: string }[];
    console: string;
  };
  expect(logs.events.map(({ status }) => status)).toEqual(['creating', 'running']);
  expect(logs.console).toBe('booted\n');
  await destroy(id);
});

test('fifty creates and destroys at once leave nothing', async () => {
  const sandboxes = await Promise.all(Array.from({ length: 50 }, () => plane.create()));
  expect(new Set(sandboxes.map(({ id }) => id)).size).toBe(50);
  const answers = await Promise.all(sandboxes.map(({ id }) => destroy(id)));
  expect(answers.every(({ status }) => status === 204)).toBe(true);
  expect(plane.host.sandboxes.size).toBe(0);
});

test('a body that comes in pieces without a length is taken', async () => {
  const { hostname, port } = new URL(plane.url);
  const headers = { 'x-api-key': plane.key, 'content-type': 'application/json; charset=utf-8' };
  const status = await new Promise<number>((resolve, reject) => {
    const call = request({ hostname, port, path: '/v1/sandboxes', method: 'POST', headers }, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
    call.on('error', reject);
    call.write('{"metadata":{"a"');
    setTimeout(() => call.end(':"b"}}'), 20);
  });
  expect(status).toBe(201);
});
