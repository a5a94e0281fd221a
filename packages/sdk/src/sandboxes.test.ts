import { text } from 'node:stream/consumers';
import { PerchError } from '@perch/protocol';
import { expect, test } from 'vitest';
import { Perch } from './index.ts';
import { fakeServer, json } from './testing/fake-server.ts';

const apiKey = `perch_${'0'.repeat(40)}`;
const paused = { id: 'sb0', status: 'paused', timings_ms: { freeze: 1.5, total: 20 } };

test('a pause and a resume tell the sandbox and what each stage took', async () => {
  await using server = await fakeServer((_request, response) => json(response, 200, paused));
  const { sandboxes } = new Perch({ url: server.url, apiKey });
  expect(await sandboxes.pause('sb0')).toEqual(paused);
  expect(await sandboxes.resume('sb 1')).toEqual(paused);
  expect(server.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
    'POST /v1/sandboxes/sb0/pause',
    'POST /v1/sandboxes/sb%201/resume',
  ]);
});

test.each(['pause', 'resume'] as const)(
  'a %s whose connection breaks is not sent again: a second would be refused',
  async (what) => {
    await using server = await fakeServer((request) => request.socket.destroy());
    await expect(new Perch({ url: server.url, apiKey }).sandboxes[what]('sb0')).rejects.toMatchObject({
      sent: true,
    });
    expect(server.requests).toHaveLength(1);
  },
);

test('the state that stands in the way is in the error', async () => {
  const body = new PerchError('sandbox_not_running', 'Sandbox sb0 is paused, not running.', {
    id: 'sb0',
    status: 'paused',
  }).toBody();
  await using server = await fakeServer((_request, response) => json(response, 409, body));
  await expect(new Perch({ url: server.url, apiKey }).sandboxes.pause('sb0')).rejects.toMatchObject({
    code: 'sandbox_not_running',
    details: { status: 'paused' },
  });
});

test('what the end of its time does goes with the create', async () => {
  let body = '';
  await using server = await fakeServer(async (request, response) => {
    body = await text(request);
    json(response, 201, paused);
  });
  const choice = { on_timeout: 'pause', auto_resume: true } as const;
  await new Perch({ url: server.url, apiKey }).sandboxes.create(choice);
  expect(JSON.parse(body)).toEqual(choice);
});

test('all sandboxes come in pages as large as the server gives them', async () => {
  const refusal = new PerchError('validation_failed', 'limit must be at most 100.', {
    problems: [],
  }).toBody();
  await using server = await fakeServer((request, response) => {
    const query = new URL(request.url ?? '', server.url).searchParams;
    if (Number(query.get('limit')) > 100) json(response, 400, refusal);
    else if (query.get('status') === 'none') json(response, 400, refusal);
    else if (query.has('cursor')) json(response, 200, { items: [{ id: 'sb1' }], next_cursor: null });
    else json(response, 200, { items: [{ id: 'sb0' }], next_cursor: 'next' });
  });
  const { sandboxes } = new Perch({ url: server.url, apiKey });
  const ids: string[] = [];
  for await (const { id } of sandboxes.all()) ids.push(id);
  expect(ids).toEqual(['sb0', 'sb1']);
  expect(server.requests.map(({ url }) => url)).toEqual([
    '/v1/sandboxes?limit=1000',
    '/v1/sandboxes?limit=100',
    '/v1/sandboxes?limit=100&cursor=next',
  ]);
  await expect(sandboxes.all({ status: 'none' as never }).next()).rejects.toMatchObject({
    code: 'validation_failed',
  });
});
