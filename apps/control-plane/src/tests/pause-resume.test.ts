/** Pause and resume: what each answers, what ends with a life, and what happens when two things come at once. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ErrorCode,
  type HostSandbox,
  PerchError,
  type Sandbox,
  SandboxTransition,
} from '@perch/protocol';
import { Check } from 'typebox/value';
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

const pause = (id: string, init?: RequestInit & { json?: unknown }) => plane.transition(id, 'pause', init);
const resume = (id: string, init?: RequestInit & { json?: unknown }) => plane.transition(id, 'resume', init);
const destroy = (id: string) => plane.fetch(`/v1/sandboxes/${id}`, { method: 'DELETE' });
const exec = (id: string, script = 'echo hi') =>
  plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'sh', args: ['-c', script] } });
const json = async <T>(answer: Response | Promise<Response>) => (await (await answer).json()) as T;
const statusOf = async (id: string) => (await plane.get(id)).status;
const eventsOf = async (id: string) =>
  (await json<{ events: { status: string }[] }>(plane.fetch(`/v1/sandboxes/${id}/logs`))).events.map(
    ({ status }) => status,
  );

async function refused(answer: Response | Promise<Response>) {
  const { status } = await answer;
  const { error } = await json<{ error: { code: ErrorCode; message: string; remedy: string } }>(answer);
  return { status, ...error };
}

/** Stops the host in the middle of the next pause or resume, until it is let go. */
function hook(what: 'onPause' | 'onResume') {
  const reached = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  plane.host[what] = async () => {
    reached.resolve();
    await release.promise;
  };
  return { reached: reached.promise, release: () => release.resolve() };
}

const failWith = (code: ErrorCode, message: string, details: object) => () => {
  throw new PerchError(code, message, details as never);
};

test('a sandbox is paused and resumed, with what each stage took', async () => {
  const sandbox = await plane.create({ timeout_sec: 1000 });
  const { id } = sandbox;
  const paused = await pause(id, { headers: { 'x-request-id': 'req-p' } });
  expect(paused.status).toBe(200);
  const body = await json<SandboxTransition>(paused);
  expect(Check(SandboxTransition, body)).toBe(true);
  expect(body).toMatchObject({ status: 'paused', host_ip: null, expires_at: null });
  expect(body.timings_ms).toEqual({
    freeze: 1,
    device_state: 2,
    memory: 30,
    disk: 4,
    commit: 5,
    teardown: 6,
    total: 48,
  });
  expect(plane.host.paused.at(-1)).toEqual({ id, body: { generation: 1 }, requestId: 'req-p' });
  const { timings_ms: _, ...shown } = body;
  expect(await plane.get(id)).toEqual(shown);

  const resumed = await json<SandboxTransition>(resume(id, { body: '{}', headers: jsonType() }));
  expect(resumed).toMatchObject({ status: 'running', host_ip: '127.0.0.2', started_at: sandbox.started_at });
  expect(resumed.timings_ms.total).toBe(30);
  expect(Math.abs(Date.parse(resumed.expires_at ?? '') - Date.now() - 1_000_000)).toBeLessThan(100_000);
  expect(await (await exec(id)).text()).toContain('hi');
  expect(await eventsOf(id)).toEqual(['creating', 'running', 'pausing', 'paused', 'resuming', 'running']);
});

test('a pause and a resume without memory say so to the host, and no more than that', async () => {
  const { id } = await plane.create();
  const without = { json: { memory: false } };
  expect((await pause(id, without)).status).toBe(200);
  expect(plane.host.paused.at(-1)?.body).toEqual({ generation: 1, memory: false });
  expect((await resume(id, without)).status).toBe(200);
  expect(plane.host.resumed.at(-1)?.body).toMatchObject({ generation: 2, memory: false });
  for (const call of [pause, resume])
    expect(await refused(call(id, { json: { memory: 'no' } }))).toMatchObject({
      ...{ status: 400, code: 'validation_failed' },
    });
});

test('who asks for a pause with memory does not share one without', async () => {
  const { id } = await plane.create();
  const { reached, release } = hook('onPause');
  const first = pause(id, { json: { memory: false } });
  await reached;
  const same = pause(id, { json: { memory: false } });
  expect(await refused(pause(id))).toMatchObject({
    ...{ status: 409, code: 'sandbox_not_running' },
    message: `Sandbox ${id} is pausing without its memory, not with its memory.`,
  });
  release();
  expect([(await first).status, (await same).status]).toEqual([200, 200]);
  const next = hook('onResume');
  const resuming = resume(id);
  await next.reached;
  expect(await refused(resume(id, { json: { memory: false } }))).toMatchObject({
    ...{ status: 409, code: 'sandbox_not_paused' },
    message: `Sandbox ${id} is resuming from its last state, not from its last state without its memory.`,
  });
  next.release();
  expect((await resuming).status).toBe(200);
});

test('a sandbox that is to be woken by requests keeps its memory when its time is over', async () => {
  const asked = { on_timeout: 'pause', pause_memory: false, auto_resume: true };
  expect(await refused(plane.fetch('/v1/sandboxes', { json: asked }))).toMatchObject({
    ...{ status: 400, code: 'validation_failed' },
    message: expect.stringContaining('pause_memory does not go with auto_resume'),
  });
});

const jsonType = () => ({ 'x-api-key': plane.key, 'content-type': 'application/json' });

test('each life has its own token and address, and both stay secret', async () => {
  const { id } = await plane.create();
  const seen = new Set<string>();
  for (const generation of [1, 2, 3]) {
    if (generation > 1) {
      await pause(id);
      expect((await resume(id)).status).toBe(200);
      expect(plane.host.resumed.at(-1)?.body.generation).toBe(generation);
    }
    await exec(id);
    const connection = plane.connections.at(-1);
    expect(connection).toMatchObject({
      sandboxId: id,
      address: generation === 1 ? '127.0.0.1' : '127.0.0.2',
    });
    expect(connection?.accessToken).toMatch(/^[0-9a-f]{64}$/);
    seen.add(connection?.accessToken ?? '');
    if (generation > 1) expect(plane.host.resumed.at(-1)?.body.access_token).toBe(connection?.accessToken);
  }
  expect(seen.size).toBe(3);
  for (const token of seen) expect(plane.logLines.join('')).not.toContain(token);
});

test('what cannot be done now is 409 and names the state', async () => {
  const { id } = await plane.create();
  expect(await refused(resume(id))).toMatchObject({ status: 409, code: 'sandbox_not_paused' });
  await pause(id);
  for (const call of [
    pause(id),
    exec(id),
    plane.fetch(`/v1/sandboxes/${id}/files?path=.`),
    plane.fetch(`/v1/sandboxes/${id}/files/stream/read?path=a`),
    plane.fetch(`/v1/sandboxes/${id}/files/stream/write?path=a`, { method: 'POST', body: 'x' }),
    plane.fetch(`/v1/sandboxes/${id}/exec/ticket`, { method: 'POST' }),
    plane.fetch(`/v1/sandboxes/${id}/timeout`, { json: { timeout_sec: 5 } }),
  ]) {
    expect(await refused(call)).toMatchObject({
      status: 409,
      code: 'sandbox_not_running',
      message: `Sandbox ${id} is paused, not running.`,
    });
  }
  expect(await statusOf(id)).toBe('paused');
  expect((await destroy(id)).status).toBe(204);
  expect(plane.host.sandboxes.has(id)).toBe(false);
  expect(await refused(pause(id))).toMatchObject({
    status: 409,
    message: expect.stringContaining('destroyed'),
  });
  expect(await refused(resume(id))).toMatchObject({
    status: 409,
    message: expect.stringContaining('destroyed'),
  });
  expect(await refused(pause('sb000000000000000000'))).toMatchObject({ status: 404 });
  const { id: broken } = await plane.create();
  plane.host.change(broken, { status: 'failed', reason: 'it burned' });
  await eventually(async () => (await statusOf(broken)) === 'failed');
  for (const call of [pause(broken), resume(broken)]) {
    expect(await refused(call)).toMatchObject({
      status: 409,
      code: 'sandbox_failed',
      message: expect.stringContaining('it burned'),
    });
  }
});

test('a body with anything in it is refused and changes nothing', async () => {
  const { id } = await plane.create();
  for (const what of ['pause', 'resume'] as const) {
    const answer = plane.transition(id, what, { body: '{"force":true}', headers: jsonType() });
    expect(await refused(answer)).toMatchObject({ status: 400, message: 'force is unknown' });
  }
  expect(await statusOf(id)).toBe('running');
});

test('everything that was open ends with the life, and says why', async () => {
  const { id } = await plane.create();
  await using client = await StreamClient.open(`${plane.url}/v1/sandboxes/${id}/exec/stream`, {
    'x-api-key': plane.key,
  });
  client.send({ type: 'start', cmd: 'sleep', args: ['60'] });
  await client.until((one) => one.type === 'start');
  const command = exec(id, 'sleep 60');
  const upload = plane.fetch(`/v1/sandboxes/${id}/files/stream/write?path=big`, {
    method: 'POST',
    body: endless(),
    duplex: 'half',
  } as RequestInit);
  await eventually(() => (plane.guests.get(id)?.children.size ?? 0) === 2);
  const { reached, release } = hook('onPause');
  const asked = pause(id);
  await reached;
  release();
  expect((await asked).status).toBe(200);
  const expected = { code: 'sandbox_not_running', message: `Sandbox ${id} is paused, not running.` };
  expect((await client.rest()).at(-1)).toMatchObject({
    type: 'error',
    error: {
      ...{ code: expected.code, details: { id, status: 'paused' } },
      message: expect.stringMatching(
        /^Sandbox \w+ is paused, not running\. Command \d+ goes on when .* resumed\.$/,
      ),
    },
  });
  expect(await refused(command)).toMatchObject({ status: 409, ...expected });
  expect(await refused(upload)).toMatchObject({ status: 409, ...expected });
});

/** A body that never ends by itself. */
function endless(): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller) {
      await sleep(20);
      controller.enqueue(new Uint8Array(1000));
    },
  });
}

test('calls at the same time share one pause, and one resume', async () => {
  const { id } = await plane.create();
  for (const [what, name, calls] of [
    ['onPause', 'pause', plane.host.paused],
    ['onResume', 'resume', plane.host.resumed],
  ] as const) {
    const { reached, release } = hook(what);
    const before = calls.length;
    const first = plane.transition(id, name);
    await reached;
    const others = [plane.transition(id, name), plane.transition(id, name)];
    await sleep(50);
    release();
    const bodies = await Promise.all([first, ...others].map((answer) => json(answer)));
    expect(bodies[0]).toMatchObject({ status: name === 'pause' ? 'paused' : 'running' });
    expect(bodies[1]).toEqual(bodies[0]);
    expect(bodies[2]).toEqual(bodies[0]);
    expect(calls.length).toBe(before + 1);
  }
});

test('a pause of what is being resumed and a resume of what is being paused are refused', async () => {
  const { id } = await plane.create();
  const pausing = hook('onPause');
  const paused = pause(id);
  await pausing.reached;
  expect(await refused(resume(id))).toMatchObject({
    status: 409,
    message: `Sandbox ${id} is pausing, not paused.`,
  });
  expect(await refused(exec(id))).toMatchObject({ message: `Sandbox ${id} is pausing, not running.` });
  pausing.release();
  expect((await paused).status).toBe(200);
  const resuming = hook('onResume');
  const resumed = resume(id);
  await resuming.reached;
  expect(await refused(pause(id))).toMatchObject({
    status: 409,
    message: `Sandbox ${id} is resuming, not running.`,
  });
  resuming.release();
  expect((await resumed).status).toBe(200);
});

test.each([
  { under: {}, asked: { checkpoint: 0 }, says: 'is resuming from its last state, not from checkpoint 0' },
  { under: { checkpoint: 0 }, asked: {}, says: 'is resuming from checkpoint 0, not from its last state' },
  {
    under: { checkpoint: 0 },
    asked: { checkpoint: 1 },
    says: 'is resuming from checkpoint 0, not from checkpoint 1',
  },
])('a resume to another state than the one under way is refused: $says', async ({ under, asked, says }) => {
  const { id } = await plane.paused({ auto_resume: true });
  const { reached, release } = hook('onResume');
  const first = resume(id, { json: under });
  await reached;
  const needing = exec(id);
  expect(await refused(resume(id, { json: asked }))).toMatchObject({
    ...{ status: 409, code: 'sandbox_not_paused', details: { id, status: 'resuming' } },
    ...{ message: expect.stringContaining(says), remedy: expect.stringContaining('pause it first') },
  });
  release();
  for (const answer of [first, needing]) expect((await answer).status).toBe(200);
  expect(plane.host.resumed.filter((one) => one.id === id)).toHaveLength(1);
});

test('a client that goes away changes nothing', async () => {
  const { id } = await plane.create();
  for (const [what, name, status] of [
    ['onPause', 'pause', 'paused'],
    ['onResume', 'resume', 'running'],
  ] as const) {
    const { reached, release } = hook(what);
    const gone = new AbortController();
    const asked = plane.transition(id, name, { signal: gone.signal }).catch(() => 'aborted');
    await reached;
    gone.abort();
    expect(await asked).toBe('aborted');
    await sleep(50);
    release();
    await eventually(async () => (await statusOf(id)) === status);
  }
});

test.each([
  ['pause_failed', 500, { id: 'x', reason: 'no space' }],
  ['host_disk_full', 507, {}],
  ['capacity_exhausted', 503, { resource: 'disk', requested: 2, available: 1 }],
] as const)(
  'a pause that fails with %s leaves it running, with time to try again',
  async (code, status, details) => {
    const { id } = await plane.create({ timeout_sec: 20 });
    await exec(id);
    plane.host.onPause = failWith(code, 'Not now.', details);
    expect(await refused(pause(id))).toMatchObject({ status, code, message: 'Not now.' });
    const after = await plane.get(id);
    expect(after).toMatchObject({ status: 'running', host_ip: '127.0.0.1' });
    expect(Date.parse(after.expires_at ?? '') - Date.now()).toBeGreaterThan(55_000);
    expect((await exec(id)).status).toBe(200);
    expect(await eventsOf(id)).toEqual(['creating', 'running', 'pausing', 'running']);
    plane.host.onPause = () => {};
    expect((await pause(id)).status).toBe(200);
  },
);

test('a command outlives a pause that fails', async () => {
  const { id } = await plane.create();
  const command = exec(id, 'sleep 1; echo lives');
  await eventually(() => (plane.guests.get(id)?.children.size ?? 0) === 1);
  plane.host.onPause = failWith('pause_failed', 'Not now.', { id, reason: 'no space' });
  expect(await refused(pause(id))).toMatchObject({ code: 'pause_failed' });
  expect(await json(await command)).toMatchObject({ exit_code: 0, stdout: 'lives\n' });
});

test.each([
  ['resume_failed', 500, { id: 'x', reason: 'no guest' }],
  ['snapshot_damaged', 500, { id: 'x', reason: 'bad checksum' }],
  ['capacity_exhausted', 503, { resource: 'memory', requested: 2, available: 1 }],
  ['host_disk_full', 507, {}],
  ['guest_unavailable', 502, { id: 'x' }],
] as const)(
  'a resume that fails with %s leaves it paused, and may be tried again',
  async (code, status, details) => {
    const { id } = await plane.paused();
    plane.host.onResume = failWith(code, 'Not now.', details);
    expect(await refused(resume(id))).toMatchObject({ status, code });
    await eventually(async () => (await statusOf(id)) === 'paused');
    expect(await plane.get(id)).toMatchObject({ host_ip: null, expires_at: null });
    plane.host.onResume = () => {};
    expect((await resume(id)).status).toBe(200);
    expect(plane.host.resumed.at(-1)?.body).toEqual(plane.host.resumed.at(-2)?.body);
    expect((await exec(id)).status).toBe(200);
  },
);

test.each(['pause', 'resume'] as const)('a destroy overtakes a %s', async (what) => {
  const { id } = what === 'pause' ? await plane.create() : await plane.paused();
  const { reached, release } = hook(what === 'pause' ? 'onPause' : 'onResume');
  const asked = plane.transition(id, what);
  await reached;
  const destroyed = destroy(id);
  await eventually(() => plane.host.deleted.includes(id));
  release();
  expect((await destroyed).status).toBe(204);
  expect(await refused(asked)).toMatchObject({
    status: 409,
    message: expect.stringMatching(/is destroy(ing|ed)/),
  });
  expect(await plane.get(id)).toMatchObject({ status: 'destroyed', host_ip: null });
  expect(plane.host.sandboxes.has(id)).toBe(false);
});

test('destroys, pauses and resumes in one moment leave what they say', async () => {
  const sandboxes = await Promise.all(Array.from({ length: 10 }, () => plane.create()));
  await Promise.all(
    sandboxes.map(async ({ id }, i) => {
      const calls = [pause(id), resume(id), exec(id), pause(id)];
      if (i % 2 === 0) calls.push(destroy(id));
      for (const answer of await Promise.all(calls)) expect([200, 204, 409]).toContain(answer.status);
      const status = await statusOf(id);
      if (i % 2 === 0) expect(status).toBe('destroyed');
      else expect(plane.host.sandboxes.get(id)?.status).toBe(status);
      if (status === 'running') expect((await exec(id)).status).toBe(200);
    }),
  );
});

test('a pause that its host answers with the end of the sandbox makes it failed, before its host tells of that', async () => {
  const { id } = await plane.create();
  const reason = 'the monitor died';
  const { sandboxes } = plane.host;
  plane.host.onPause = () => {
    sandboxes.set(id, { ...(sandboxes.get(id) as HostSandbox), status: 'failed', reason, address: null });
    failWith('sandbox_failed', 'It is gone.', { id, reason })();
  };
  expect(await refused(pause(id))).toMatchObject({ status: 409, code: 'sandbox_failed' });
  expect(await plane.get(id)).toMatchObject({ status: 'failed', reason });
});

test('a VM that dies while it is paused in the middle is failed', async () => {
  const { id } = await plane.create();
  plane.host.onPause = () => {
    plane.host.change(id, { status: 'failed', reason: 'killed by signal 9', address: null });
    failWith('sandbox_failed', 'It is gone.', { id, reason: 'killed by signal 9' })();
  };
  expect(await refused(pause(id))).toMatchObject({ code: 'sandbox_failed' });
  expect(await plane.get(id)).toMatchObject({ status: 'failed', reason: 'killed by signal 9' });
});

test('metrics and log have the figures of the answer', async () => {
  const { id } = await plane.create();
  await pause(id);
  await resume(id);
  const text = await (await plane.fetch('/metrics')).text();
  for (const [transition, stage] of [
    ['pause', 'freeze'],
    ['pause', 'total'],
    ['resume', 'total'],
  ]) {
    expect(text).toMatch(
      new RegExp(`perch_transition_seconds_count\\{transition="${transition}",stage="${stage}"\\} [1-9]`),
    );
  }
  const lines = plane.logLines.filter((line) => line.includes(id) && line.includes('timings_ms'));
  expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual(['paused', 'resumed']);
  expect(lines[0]).toContain('"device_state":2');
});

test('a repeat of a create whose sandbox is paused by now gets that sandbox', async () => {
  const headers = { 'idempotency-key': 'slept' };
  const ask = () => json<Sandbox>(plane.fetch('/v1/sandboxes', { json: {}, headers }));
  const { id } = await ask();
  await pause(id);
  expect((await ask()).id).toBe(id);
});
