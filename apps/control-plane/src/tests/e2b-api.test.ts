/** The control-plane API of E2B, with a host that a test plays. */
import { asE2bKey, PerchError } from '@perch/protocol';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { eventually, TestPlane } from '../testing/index.ts';

let plane: TestPlane;
beforeAll(async () => {
  plane = await TestPlane.start();
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());
afterEach(() => {
  plane.host.onCreate = () => {};
  plane.host.onPause = () => {};
});

type Json = Record<string, unknown>;
interface Access {
  sandboxID: string;
  envdAccessToken: string;
  trafficAccessToken: string | null;
}

const call = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
  const answer = await plane.fetch(path, { method, headers, ...(body === undefined ? {} : { json: body }) });
  const text = await answer.text();
  return {
    status: answer.status,
    headers: answer.headers,
    text,
    body: (text ? JSON.parse(text) : undefined) as never,
  };
};
const create = async (body: Json = {}): Promise<Access> => {
  const { status, body: made } = await call('POST', '/v2/sandboxes', { templateID: 'base', ...body });
  expect(status).toBe(201);
  return made;
};
const detail = async (id: string): Promise<Json> => (await call('GET', `/sandboxes/${id}`)).body;
const seconds = (sandbox: Json) => (Date.parse(String(sandbox.endAt)) - Date.now()) / 1000;

test('a key opens it in the form of E2B, too, and nothing else does', async () => {
  const ask = (key: string) => fetch(`${plane.url}/v2/sandboxes`, { headers: { 'x-api-key': key } });
  expect((await ask(asE2bKey(plane.key))).status).toBe(200);
  expect((await ask(plane.key)).status).toBe(200);
  for (const wrong of [`e2b_${'0'.repeat(40)}`, 'e2b_', plane.key.slice('perch_'.length)]) {
    const answer = await ask(wrong);
    expect([answer.status, await answer.json()]).toEqual([401, { code: 401, message: expect.any(String) }]);
  }
});

test('a create answers how the sandbox is reached, and the sandbox is one of /v1, too', async () => {
  const made = await create({
    metadata: { a: 'b' },
    envVars: { X: 'y' },
    timeout: 60,
    autoPause: true,
    autoResume: { enabled: true },
  });
  expect(made).toMatchObject({
    ...{ templateID: 'base', clientID: 'local', envdVersion: '0.6.13', trafficAccessToken: null },
    domain: `localhost:${new URL(plane.url).port}`,
    envdAccessToken: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
  expect(plane.host.created.at(-1)?.body.env).toEqual({ X: 'y' });
  expect(plane.host.created.at(-1)?.body.access_token).not.toBe(made.envdAccessToken);
  expect(await plane.get(made.sandboxID)).toMatchObject({
    ...{ status: 'running', timeout_sec: 60, timeout_mode: 'fixed', on_timeout: 'pause', auto_resume: true },
    metadata: { a: 'b' },
  });
  expect(await detail(made.sandboxID)).toMatchObject({
    ...{ state: 'running', cpuCount: 1, memoryMB: 512, diskSizeMB: 5120, metadata: { a: 'b' } },
    lifecycle: { onTimeout: 'pause', autoResume: true },
    envdAccessToken: made.envdAccessToken,
  });
});

test('a sandbox has 300 s by the newer call and 15 s by the older one', async () => {
  const { sandboxID } = await create();
  expect(seconds(await detail(sandboxID))).toBeGreaterThan(290);
  const old = await call('POST', '/sandboxes', {
    templateID: 'base',
    secure: true,
    allow_internet_access: true,
  });
  expect(old.status).toBe(201);
  expect(seconds(await detail((old.body as Access).sandboxID))).toBeLessThan(15.1);
});

test('a sandbox of /v1 keeps its ports to those who have its token, one of E2B opens them unless told otherwise', async () => {
  const ours = await plane.create();
  const connected = await call('POST', `/v2/sandboxes/${ours.id}/connect`, { timeout: 60 });
  expect(connected).toMatchObject({
    status: 200,
    body: { trafficAccessToken: expect.stringMatching(/^[0-9a-f]{64}$/) },
  });
  const closed = await create({ network: { allowPublicTraffic: false } });
  expect(closed.trafficAccessToken).toMatch(/^[0-9a-f]{64}$/);
  expect(closed.trafficAccessToken).not.toBe(closed.envdAccessToken);
});

describe('what is not done is refused by its name, before anything is made', () => {
  test.each([
    ['allow_internet_access', { allow_internet_access: false }],
    ['network.denyOut', { network: { denyOut: ['0.0.0.0/0'] } }],
    ['network.dnsServers', { network: { dnsServers: [] } }],
    ['network.egressProxy', { network: { egressProxy: { address: 'a:1' } } }],
    ['network.rules', { network: { rules: { 'a.test': [] } } }],
    ['network.elsewhere', { network: { elsewhere: 1 } }],
    ['iam', { iam: { tokens: { a: {} } } }],
    ['mcp', { mcp: 'a' }],
    ['volumeMounts', { volumeMounts: [{ name: 'a', path: '/a' }] }],
    ['autoPauseMemory', { autoPause: true, autoPauseMemory: false, autoResume: { enabled: true } }],
    ['newest', { newest: true }],
    ['timeout', { timeout: 0 }],
    ['envVars.1X', { envVars: { '1X': '' } }],
    ['metadata.a', { metadata: { a: 1 } }],
    ['templateID', { templateID: 7 }],
  ])('%s', async (name, body) => {
    const before = plane.host.created.length;
    const answer = await call('POST', '/v2/sandboxes', { templateID: 'base', ...body });
    expect(answer).toMatchObject({
      status: 400,
      body: { code: 400, message: expect.stringContaining(name) },
    });
    expect(plane.host.created.length).toBe(before);
  });

  test('and what asks for nothing is taken, such as the gateway that the client starts', async () => {
    await create({ mcp: { anything: { key: 'value' } } });
    await create({
      ...{ metadata: {}, envVars: {}, iam: null, mcp: null, volumeMounts: [], allow_internet_access: true },
      network: { allowOut: [], denyOut: [], egressProxy: null, rules: {}, allowPublicTraffic: null },
    });
  });

  test.each([
    ['POST', '/volumes', {}],
    ['GET', '/secrets', undefined],
    ['POST', '/v3/templates', { name: 'x' }],
    ['POST', '/templates/tags', {}],
    ['GET', '/templates/base/tags', undefined],
    ['GET', '/teams', undefined],
  ])('%s %s', async (method, path, body) => {
    const answer = await call(method, path, body);
    expect(answer).toMatchObject({
      status: 400,
      body: { code: 400, message: expect.stringContaining('not offered') },
    });
  });

  test('and what is no call at all is not found', async () => {
    for (const [method, path] of [
      ['GET', '/v2/nothing'],
      ['PATCH', '/sandboxes/x'],
      ['POST', '/snapshots'],
    ]) {
      expect(await call(method as string, path as string)).toMatchObject({
        status: 404,
        body: { code: 404 },
      });
    }
  });
});

test('an unknown template is 404, and names it', async () => {
  for (const templateID of ['nothing', 'base:tag', 'Team/base']) {
    const answer = await call('POST', '/v2/sandboxes', { templateID });
    expect(answer).toMatchObject({ status: 404, body: { code: 404 } });
    expect(answer.text).toContain(templateID);
  }
});

test('a sandbox that is killed is not found from then on, and a second kill is 404 with a body', async () => {
  const { sandboxID: id } = await create();
  const first = await call('DELETE', `/sandboxes/${id}`);
  expect([first.status, first.text]).toEqual([204, '']);
  for (const [method, path, body] of [
    ['DELETE', ''],
    ['GET', ''],
    ['POST', '/timeout', { timeout: 5 }],
    ['POST', '/pause', {}],
    ['POST', '/connect', { timeout: 5 }],
    ['POST', '/refreshes', {}],
    ['POST', '/snapshots', {}],
    ['POST', '/fork', {}],
    ['GET', '/metrics'],
    ['GET', '/logs'],
  ] as const) {
    const answer = await call(method, `/sandboxes/${id}${path}`, body);
    expect([path, answer.status, answer.body]).toEqual([
      path,
      404,
      { code: 404, message: expect.any(String) },
    ]);
  }
  expect((await call('GET', '/sandboxes/nonsense')).status).toBe(404);
});

test('a pause keeps the token and the moment, a second one is 409, and connect resumes by 201', async () => {
  const { sandboxID: id, envdAccessToken } = await create({ timeout: 600 });
  expect((await call('POST', `/sandboxes/${id}/pause`, {})).status).toBe(204);
  const paused = await detail(id);
  expect(paused).toMatchObject({ state: 'paused', pauseMode: 'full', envdAccessToken });
  expect(Math.abs(seconds(paused))).toBeLessThan(30);
  expect((await detail(id)).endAt).toBe(paused.endAt);
  expect((await plane.get(id)).expires_at).toBeNull();
  expect(await call('POST', `/sandboxes/${id}/pause`, {})).toMatchObject({
    status: 409,
    body: { code: 409 },
  });
  expect((await call('POST', `/sandboxes/${id}/timeout`, { timeout: 60 })).status).toBe(404);

  const resumed = await call('POST', `/v2/sandboxes/${id}/connect`, { timeout: 200 });
  expect(resumed).toMatchObject({ status: 201, body: { sandboxID: id, envdAccessToken } });
  expect(seconds(await detail(id))).toBeGreaterThan(190);
  expect(seconds(await detail(id))).toBeLessThan(201);
});

test('connect to one that runs only extends its time, and an end that is later stays to the byte', async () => {
  const { sandboxID: id } = await create({ timeout: 600 });
  const { endAt } = await detail(id);
  expect((await call('POST', `/v2/sandboxes/${id}/connect`, { timeout: 60 })).status).toBe(200);
  expect((await detail(id)).endAt).toBe(endAt);
  await call('POST', `/v2/sandboxes/${id}/connect`, { timeout: 900 });
  expect(seconds(await detail(id))).toBeGreaterThan(890);
  expect((await call('POST', `/sandboxes/${id}/timeout`, { timeout: 30 })).status).toBe(204);
  expect(seconds(await detail(id))).toBeLessThan(31);
  expect((await call('POST', `/sandboxes/${id}/refreshes`, { duration: 100 })).status).toBe(204);
  expect(seconds(await detail(id))).toBeGreaterThan(95);
  expect((await call('POST', `/sandboxes/${id}/resume`, { timeout: 60 })).status).toBe(409);
});

test('a resume without memory drops it, and asks for nothing of one that runs or has none', async () => {
  const { sandboxID: id } = await create();
  const connect = () => call('POST', `/v2/sandboxes/${id}/connect`, { memory: false });
  const last = () => plane.host.resumed.at(-1)?.body;
  expect((await connect()).status).toBe(200);
  expect(plane.host.resumed.some((one) => one.id === id)).toBe(false);
  await call('POST', `/sandboxes/${id}/pause`);
  expect((await connect()).status).toBe(201);
  expect(last()).toMatchObject({ generation: 2, memory: false });
  expect((await call('POST', `/sandboxes/${id}/pause`, { memory: false })).status).toBe(204);
  expect((await connect()).status).toBe(201);
  expect(last()).toEqual({ generation: 3, access_token: expect.any(String) });
});

test('a pause without memory says so until it is resumed, which only a call for it does', async () => {
  const { sandboxID: id } = await create({ autoPause: true, autoResume: { enabled: true } });
  expect((await call('POST', `/sandboxes/${id}/pause`, { memory: false })).status).toBe(204);
  expect(plane.host.paused.at(-1)?.body).toEqual({ generation: 1, memory: false });
  expect(await detail(id)).toMatchObject({ state: 'paused', pauseMode: 'filesystem' });
  const woken = await plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'true' } });
  expect(woken.status).toBe(409);
  expect((await call('POST', `/v2/sandboxes/${id}/connect`, {})).status).toBe(201);
  await call('POST', `/sandboxes/${id}/pause`, { memory: true, requireHealthyGuest: false });
  expect(await detail(id)).toMatchObject({ pauseMode: 'full' });
});

test('a guest whose memory is not kept must be healthy in any case', async () => {
  const { sandboxID: id } = await create();
  const pause = (body: object) => call('POST', `/sandboxes/${id}/pause`, body);
  plane.host.onPause = () => {
    throw new PerchError('pause_failed', 'The guest does not answer.', { id, reason: 'it does not answer' });
  };
  expect(await pause({ memory: false, requireHealthyGuest: true })).toMatchObject({ status: 503 });
  plane.host.onPause = () => {};
  expect((await pause({ memory: false, requireHealthyGuest: true })).status).toBe(204);
});

test('a sandbox whose time is over is paused without memory where that was asked for', async () => {
  const { sandboxID: id } = await create({ autoPause: true, autoPauseMemory: false, timeout: 1 });
  await eventually(async () => (await detail(id)).state === 'paused');
  expect(await detail(id)).toMatchObject({ pauseMode: 'filesystem' });
});

test('a snapshot of the disk alone is asked for as such', async () => {
  const { sandboxID: id } = await create();
  const made = await call('POST', `/sandboxes/${id}/snapshots`, { name: 'alone', memory: false });
  expect(made).toMatchObject({ status: 201, body: { snapshotID: 'alone' } });
  expect(plane.host.snapshots.get('alone')).toMatchObject({ memory: false });
});

test('lists come in pages by the start, filtered by state, label, template and time', async () => {
  const label = `${Math.random()}`;
  const made = [];
  for (let i = 0; i < 5; i++) made.push((await create({ metadata: { label, 'a b': 'c&d' } })).sandboxID);
  await call('POST', `/sandboxes/${made[0]}/pause`, {});
  const encoded = encodeURIComponent(
    new URLSearchParams({ label, [encodeURIComponent('a b')]: encodeURIComponent('c&d') }).toString(),
  );
  const pages: string[][] = [];
  let token: string | null = '';
  while (token !== null) {
    const page = await call('GET', `/v2/sandboxes?metadata=${encoded}&limit=2&order=asc&nextToken=${token}`);
    pages.push((page.body as Access[]).map((one) => one.sandboxID));
    token = page.headers.get('x-next-token');
  }
  expect(pages).toEqual([made.slice(0, 2), made.slice(2, 4), made.slice(4)]);

  const ids = async (query: string) =>
    ((await call('GET', `/v2/sandboxes?metadata=${encoded}&${query}`)).body as Access[]).map(
      (one) => one.sandboxID,
    );
  expect(await ids('')).toEqual(made.toReversed());
  expect(await ids('state=paused')).toEqual([made[0]]);
  expect(await ids('state=running%2Cpaused')).toHaveLength(5);
  expect(await ids('template=other')).toEqual([]);
  const third = (await detail(made[2] as string)).startedAt as string;
  expect(await ids(`startedAfter=${encodeURIComponent(third)}`)).toContain(made[2]);
  expect(await ids(`startedAfter=${encodeURIComponent(third)}`)).not.toContain(made[1]);
  expect((await call('GET', `/sandboxes?metadata=${encoded}`)).body as Access[]).toHaveLength(4);
  for (const wrong of [
    'state=dead',
    'limit=0',
    'limit=101',
    'order=up',
    'nextToken=x',
    'startedAfter=now',
    'else=1',
  ]) {
    expect(await call('GET', `/v2/sandboxes?${wrong}`)).toMatchObject({ status: 400, body: { code: 400 } });
  }
});

test('a fork gives children with tokens of their own', async () => {
  const { sandboxID: id, envdAccessToken } = await create({ timeout: 600 });
  const forked = await call('POST', `/sandboxes/${id}/fork`, { count: 2, timeout: 90 });
  expect(forked.status).toBe(201);
  const children = (forked.body as { sandbox: Access }[]).map(({ sandbox }) => sandbox);
  expect(new Set([id, ...children.map((child) => child.sandboxID)]).size).toBe(3);
  expect(new Set([envdAccessToken, ...children.map((child) => child.envdAccessToken)]).size).toBe(3);
  for (const { sandboxID } of children) expect(seconds(await detail(sandboxID))).toBeLessThan(91);
});

test('a child that cannot be made is an error among the results', async () => {
  const { sandboxID: id } = await create();
  let first: string | undefined;
  plane.host.failsChild = (child) => {
    first ??= child;
    return child === first
      ? new PerchError('capacity_exhausted', 'No room.', { resource: 'memory', requested: 1, available: 0 })
      : undefined;
  };
  const { body } = await call('POST', `/sandboxes/${id}/fork`, { count: 2 });
  plane.host.failsChild = () => undefined;
  expect(body).toContainEqual({
    error: { code: 503, message: 'No room.', error_code: 'sandbox_capacity_unavailable' },
  });
  expect(body).toContainEqual({ sandbox: expect.objectContaining({ domain: expect.any(String) }) });
});

test('a snapshot is a template by its name, is listed by its sandbox, and is deleted once', async () => {
  const { sandboxID: id } = await create();
  const made = await call('POST', `/sandboxes/${id}/snapshots`, { name: 'mine' });
  expect(made).toMatchObject({ status: 201, body: { snapshotID: 'mine', names: ['mine'] } });
  const unnamed = (await call('POST', `/sandboxes/${id}/snapshots`, {})).body as { snapshotID: string };
  const listed = await call('GET', `/snapshots?sandboxID=${id}`);
  expect((listed.body as { snapshotID: string }[]).map((one) => one.snapshotID).sort()).toEqual(
    ['mine', unnamed.snapshotID].sort(),
  );
  expect((await call('GET', `/snapshots?sandboxID=${id}&limit=1`)).headers.get('x-next-token')).toBeTruthy();
  expect((await call('GET', '/templates/aliases/mine')).body).toEqual({ templateID: 'mine', public: false });
  expect((await call('GET', '/templates/aliases/other')).status).toBe(404);
  expect(await create({ templateID: 'mine' })).toMatchObject({ templateID: 'mine' });
  expect((await call('DELETE', '/templates/mine')).status).toBe(204);
  expect(await call('DELETE', '/templates/mine')).toMatchObject({ status: 404, body: { code: 404 } });
  expect((await call('DELETE', '/templates/a%2Fb%3Ac')).status).toBe(404);
  expect((await call('POST', `/sandboxes/${id}/snapshots`, { name: 'A b' })).status).toBe(400);
});

test('the same Idempotency-Key gives the same sandbox, and is refused for another body', async () => {
  const headers = { 'idempotency-key': 'one-2' };
  const body = { templateID: 'base', metadata: {} };
  const first = await call('POST', '/v2/sandboxes', body, headers);
  const again = await call('POST', '/v2/sandboxes', body, headers);
  expect(again.body).toEqual(first.body);
  const other = await call('POST', '/v2/sandboxes', { ...body, timeout: 7 }, headers);
  expect(other).toMatchObject({
    status: 422,
    body: { code: 422, error_code: 'idempotency_request_mismatch' },
  });
});

test('a refusal that a repeat cannot mend says so', async () => {
  plane.host.onCreate = () => {
    throw new PerchError('capacity_exhausted', 'No room.', {
      resource: 'memory',
      requested: 1,
      available: 0,
    });
  };
  const answer = await call('POST', '/v2/sandboxes', { templateID: 'base' });
  expect(answer).toMatchObject({
    status: 503,
    body: { code: 503, error_code: 'sandbox_capacity_unavailable' },
  });
  expect(answer.headers.get('should-retry')).toBe('false');
});

test('logs are the events of its life, as lines of JSON and from a time on for the first version', async () => {
  const { sandboxID: id } = await create();
  const { logs } = (await call('GET', `/v2/sandboxes/${id}/logs`)).body as { logs: Json[] };
  expect(logs.map((one) => one.message)).toEqual(['creating', 'running']);
  const lines = async (query = '') => {
    const { body } = await call('GET', `/sandboxes/${id}/logs${query}`);
    return (body as { logs: Json[] }).logs.map((one) => JSON.parse(String(one.line)));
  };
  const [creating, running] = ['creating', 'running'].map((message) => ({
    ...{ level: 'info', logger: 'perch', message },
  }));
  expect(await lines()).toEqual([creating, running]);
  const last = Date.parse(String(logs[1]?.timestamp));
  expect((await lines(`?start=${last}&limit=5`)).at(-1)).toEqual(running);
  expect(await lines(`?start=${last + 1}`)).toEqual([]);
  expect((await call('GET', `/sandboxes/${id}/logs?start=now`)).status).toBe(400);
});
