/** Sandboxes over plain HTTP: what each call answers, to the last field. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import {
  type CreateSandbox,
  type ExecResult,
  type Sandbox,
  type SandboxList,
  type SandboxLogs,
  type SandboxStatus,
  sandboxIdPattern,
  sandboxStatuses,
} from '../packages/protocol/src/index.ts';
import { eventually } from './setup/eventually.ts';
import { newestIds, refusal, rest } from './setup/rest.ts';
import { shared } from './setup/shared.ts';

const unknownId = `sb${'0'.repeat(18)}`;
const small = { memory_mb: 256, disk_mb: 1024 };
const timestamp = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);

const create = (json: CreateSandbox, headers: Record<string, string> = {}) =>
  rest('/v1/sandboxes', { json, headers });
const destroy = (id: string) => rest(`/v1/sandboxes/${id}`, { method: 'DELETE' });
const read = async <T>(answer: Response | Promise<Response>) => (await (await answer).json()) as T;
const get = (id: string) => read<Sandbox>(rest(`/v1/sandboxes/${id}`));
const list = (query: string) => read<SandboxList>(rest(`/v1/sandboxes?${query}`));
const isDestroyed = async (id: string) => (await get(id)).status === 'destroyed';
const run = (id: string, cmd: string, ...args: string[]) =>
  rest(`/v1/sandboxes/${id}/exec`, { json: { cmd, args } });
const msUntil = (time: string | null) => Date.parse(time ?? '') - Date.now();

async function made(
  json: CreateSandbox,
  headers?: Record<string, string>,
): Promise<Sandbox & AsyncDisposable> {
  const answer = await create(json, headers);
  if (answer.status !== 201) throw new Error(await answer.text());
  const sandbox = await read<Sandbox>(answer);
  return Object.assign(sandbox, { [Symbol.asyncDispose]: async () => void (await destroy(sandbox.id)) });
}

let first: Sandbox;
beforeAll(async () => {
  const sandbox = await made({});
  first = sandbox;
  return () => sandbox[Symbol.asyncDispose]();
});

/** The beginning of all addresses of sandboxes, for a pattern. */
const network = shared.env.PERCH_NETWORK?.replace('0.0/16', '').replaceAll('.', '\\.');

test('a create without wishes gives a running sandbox with all defaults', async () => {
  expect(first).toEqual({
    id: expect.stringMatching(sandboxIdPattern),
    status: 'running',
    template: 'base',
    vcpus: 1,
    memory_mb: 512,
    disk_mb: 5120,
    timeout_sec: 300,
    timeout_mode: 'idle',
    on_timeout: 'destroy',
    pause_memory: true,
    auto_resume: false,
    metadata: {},
    host_id: expect.stringMatching(/./),
    host_ip: expect.stringMatching(new RegExp(`^${network}\\d+\\.\\d+$`)),
    created_at: timestamp,
    started_at: timestamp,
    last_active_at: timestamp,
    expires_at: timestamp,
    [Symbol.asyncDispose]: expect.any(Function),
  });
  expect(Date.parse(first.expires_at ?? '') - Date.parse(first.started_at ?? '')).toBe(300_000);
  const answer = await rest(`/v1/sandboxes/${first.id}`);
  expect(answer.status).toBe(200);
  const { [Symbol.asyncDispose]: _, ...fields } = first as Sandbox & AsyncDisposable;
  expect(await answer.json()).toEqual(fields);
  const nproc = await read<{ stdout: string }>(run(first.id, 'sh', '-c', 'nproc; free -m'));
  expect(nproc.stdout).toMatch(/^1\n[\s\S]*Mem: +4\d\d /);
});

test('a sandbox is as large as was asked, and its commands get its environment', async () => {
  await using sandbox = await made({
    ...small,
    vcpus: 2,
    disk_mb: 2048,
    timeout_sec: 1000,
    timeout_mode: 'fixed',
    metadata: { team: 'ä "x"' },
    env: { GREETING: "it's ü" },
  });
  expect(sandbox).toMatchObject({
    vcpus: 2,
    memory_mb: 256,
    disk_mb: 2048,
    timeout_sec: 1000,
    timeout_mode: 'fixed',
    metadata: { team: 'ä "x"' },
  });
  const script = 'nproc; echo "$GREETING"; df --output=size -BM / | tail -1';
  const { stdout } = await read<{ stdout: string }>(run(sandbox.id, 'sh', '-c', script));
  const [cpus, greeting, disk] = stdout.split('\n');
  expect([cpus, greeting]).toEqual(['2', "it's ü"]);
  expect(Number.parseInt(disk ?? '', 10)).toBeGreaterThan(1800);
  expect(Number.parseInt(disk ?? '', 10)).toBeLessThanOrEqual(2048);
});

test('repeats with one Idempotency-Key, also at the same time, make one sandbox', async () => {
  const key = { 'idempotency-key': randomUUID() };
  const wish = { ...small, metadata: { test: key['idempotency-key'] } };
  const answers = await Promise.all([create(wish, key), create({ ...wish }, key)]);
  const bodies = await Promise.all(answers.map((answer) => read<Sandbox>(answer)));
  const sandbox = bodies[0];
  expect(answers.map(({ status }) => status)).toEqual([201, 201]);
  expect(bodies[1]).toEqual(sandbox);
  try {
    const again = await create(wish, key);
    expect([again.status, await again.json()]).toEqual([201, sandbox]);
    expect((await list(`metadata.test=${key['idempotency-key']}`)).items).toHaveLength(1);
    const other = await refusal(await create({ ...wish, vcpus: 2 }, key));
    expect(other).toMatchObject({ status: 422, code: 'idempotency_mismatch' });
  } finally {
    await destroy(sandbox?.id ?? '');
  }
  const later = await create(wish, key);
  expect([later.status, await later.json()]).toEqual([201, await get(sandbox?.id ?? '')]);
  expect(await isDestroyed(sandbox?.id ?? '')).toBe(true);
});

test('lists are paged, the newest first, filtered by status and labels, without the destroyed', async () => {
  const group = randomUUID();
  const label = (colour: string) => ({ ...small, metadata: { group, colour, 'a key': 'x=y&z' } });
  await using stack = new AsyncDisposableStack();
  const three = await Promise.all(['red', 'blue', 'red'].map((colour) => made(label(colour))));
  for (const sandbox of three) stack.use(sandbox);
  // Those of one millisecond run by id.
  const place = ({ created_at, id }: Sandbox) => `${created_at} ${id}`;
  const [newest, middle, oldest] = three.sort((a, b) => (place(a) < place(b) ? 1 : -1));
  if (!newest || !middle || !oldest) throw new Error('three');
  const ids = async (query: string) =>
    (await list(`metadata.group=${group}&${query}`)).items.map(({ id }) => id);
  expect(await ids('')).toEqual([newest.id, middle.id, oldest.id]);
  const red = three.filter(({ metadata }) => metadata.colour === 'red').map(({ id }) => id);
  const blue = three.filter(({ metadata }) => metadata.colour === 'blue').map(({ id }) => id);
  expect(await ids('metadata.colour=red')).toEqual(red);
  expect(await ids(`metadata.a%20key=${encodeURIComponent('x=y&z')}&metadata.colour=blue`)).toEqual(blue);
  expect(await ids('metadata.colour=green')).toEqual([]);
  expect(await ids('status=failed')).toEqual([]);

  const pages: Sandbox[][] = [];
  let cursor: string | null = null;
  do {
    const more: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const page = await list(`metadata.group=${group}&limit=1${more}`);
    pages.push(page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
  expect(pages.map((items) => items.map(({ id }) => id))).toEqual([[newest.id], [middle.id], [oldest.id]]);

  expect((await destroy(middle.id)).status).toBe(204);
  expect(await ids('')).toEqual([newest.id, oldest.id]);
  expect(await ids('status=destroyed')).toEqual([middle.id]);
  expect(await ids('status=running,destroyed')).toEqual([newest.id, middle.id, oldest.id]);
  expect(await get(middle.id)).toMatchObject({ status: 'destroyed', host_ip: null, expires_at: null });
});

test('a destroy is 204, again 204, and 404 for an id that never was', async () => {
  await using sandbox = await made(small);
  const both = await Promise.all([destroy(sandbox.id), destroy(sandbox.id)]);
  expect(both.map(({ status }) => status)).toEqual([204, 204]);
  const again = await destroy(sandbox.id);
  expect([again.status, await again.text()]).toEqual([204, '']);
  for (const [method, path] of [
    ['DELETE', unknownId],
    ['GET', unknownId],
    ['GET', `${unknownId}/logs`],
  ]) {
    const answer = await refusal(await rest(`/v1/sandboxes/${path}`, { method: method ?? '' }));
    expect(answer).toMatchObject({ status: 404, code: 'sandbox_not_found' });
  }
});

test('logs tell the life of a sandbox and what its console shows', async () => {
  await using sandbox = await made(small);
  const line = `console ${randomUUID()}`;
  await run(sandbox.id, 'sudo', 'sh', '-c', `echo ${line} > /dev/console`);
  const logs = () => read<SandboxLogs>(rest(`/v1/sandboxes/${sandbox.id}/logs`));
  await eventually(async () => (await logs()).console.includes(line));
  const { events } = await logs();
  expect(events).toEqual([
    { at: sandbox.created_at, status: 'creating', detail: null },
    { at: timestamp, status: 'running', detail: null },
  ]);
  await destroy(sandbox.id);
  const after = await logs();
  expect(after.events.map(({ status }) => status)).toEqual([
    'creating',
    'running',
    'destroying',
    'destroyed',
  ]);
  expect(after.events[2]?.detail).toBe('asked for');
});

test('activity moves the end of an idle sandbox, and setting a timeout counts from now', async () => {
  const before = await get(first.id);
  await run(first.id, 'true');
  const after = await get(first.id);
  expect(Date.parse(after.expires_at ?? '')).toBeGreaterThan(Date.parse(before.expires_at ?? ''));
  expect(Date.parse(after.last_active_at ?? '')).toBeGreaterThan(Date.parse(before.last_active_at ?? ''));

  const set = await rest(`/v1/sandboxes/${first.id}/timeout`, { json: { timeout_sec: 3600 } });
  expect(set.status).toBe(200);
  const { timeout_sec, expires_at } = await read<Sandbox>(set);
  expect(timeout_sec).toBe(3600);
  expect(msUntil(expires_at)).toBeGreaterThan(3_500_000);
  expect(msUntil(expires_at)).toBeLessThanOrEqual(3_600_000);
});

test('a fixed sandbox ends at its time, whatever is done in it', async () => {
  await using sandbox = await made({ ...small, timeout_sec: 60, timeout_mode: 'fixed' });
  await run(sandbox.id, 'true');
  expect((await get(sandbox.id)).expires_at).toBe(sandbox.expires_at);
  await rest(`/v1/sandboxes/${sandbox.id}/timeout`, { json: { timeout_sec: 1 } });
  const busy = await refusal(await run(sandbox.id, 'sleep', '60'));
  expect(busy).toMatchObject({ status: 409, code: 'sandbox_not_running' });
  await eventually(() => isDestroyed(sandbox.id));
});

test('an idle sandbox lives while it is used and is destroyed when its time is over', async () => {
  await using sandbox = await made(small);
  const { id } = sandbox;
  const used = run(id, 'sh', '-c', 'mkfifo /tmp/end; cat /tmp/end');
  await eventually(async () => (await read<ExecResult>(run(id, 'test', '-p', '/tmp/end'))).exit_code === 0);
  await rest(`/v1/sandboxes/${id}/timeout`, { json: { timeout_sec: 1 } });
  await sleep(2000);
  expect((await run(id, 'sh', '-c', ': > /tmp/end')).status).toBe(200);
  expect((await used).status).toBe(200);
  const destroyed = await eventually(async () => (await isDestroyed(id)) && get(id));
  expect(destroyed.expires_at).toBeNull();
  const logs = await read<SandboxLogs>(rest(`/v1/sandboxes/${id}/logs`));
  expect(logs.events.find(({ status }) => status === 'destroying')?.detail).toBe('its time was over');
});

test('more than the host has is 503 with Retry-After, and leaves nothing', async () => {
  const before = await newestIds();
  const answer = await create({ memory_mb: 65_536 });
  const error = await refusal(answer);
  expect(error).toMatchObject({
    status: 503,
    code: 'capacity_exhausted',
    details: { resource: 'memory', requested: expect.any(Number), available: expect.any(Number) },
  });
  expect(error.remedy).toMatch(/smaller/);
  expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(await newestIds()).toEqual(before);
});

test('a client that goes away in the middle of a create leaves no sandbox', async () => {
  const mark = randomUUID();
  const gone = new AbortController();
  const asked = rest('/v1/sandboxes', { json: { ...small, metadata: { mark } }, signal: gone.signal });
  asked.catch(() => {});
  const statuses = (...wanted: SandboxStatus[]) => list(`metadata.mark=${mark}&status=${wanted.join(',')}`);
  const { id } = await eventually(async () => (await statuses('creating')).items[0]);
  gone.abort();
  await expect(asked).rejects.toThrow();
  await eventually(() => isDestroyed(id));
  expect((await statuses(...sandboxStatuses)).items.map((one) => one.status)).toEqual(['destroyed']);
});
