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
