import { PerchError } from '@perch/protocol';
import { expect, test } from 'vitest';
import { ConnectionError, Perch, UnexpectedAnswerError } from './index.ts';
import { fakeServer, json } from './testing/fake-server.ts';

const apiKey = `perch_${'0'.repeat(40)}`;
const sandbox = { id: 'sb0', status: 'running' };

const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'no error',
    (error: unknown) => error,
  );

test('the key goes in a header, and a list filter into the query', async () => {
  await using server = await fakeServer((_request, response) =>
    json(response, 200, { items: [], next_cursor: null }),
  );
  const perch = new Perch({ url: `${server.url}/`, apiKey });
  await perch.sandboxes.list({ status: ['running', 'failed'], metadata: { 'a b': 'c&d' } });
  expect(server.requests[0]?.headers['x-api-key']).toBe(apiKey);
  expect(server.requests[0]?.url).toBe('/v1/sandboxes?status=running%2Cfailed&metadata.a+b=c%26d');
});

test("the server's error comes with its code and remedy", async () => {
  await using server = await fakeServer((_request, response) =>
    json(response, 404, new PerchError('sandbox_not_found', 'No sandbox sbx.', { id: 'sbx' }).toBody()),
  );
  const error = await failure(new Perch({ url: server.url, apiKey }).sandboxes.get('sbx'));
  expect(error).toMatchObject({
    code: 'sandbox_not_found',
    message: 'No sandbox sbx.',
    details: { id: 'sbx' },
  });
});

test('a Perch that is not there is told with what starts it', async () => {
  const server = await fakeServer(() => {});
  await server[Symbol.asyncDispose]();
  const error = await failure(new Perch({ url: server.url, apiKey }).health());
  expect(error).toBeInstanceOf(ConnectionError);
  expect(error).toMatchObject({ sent: false, remedy: 'Start it with `perch up`.' });
  expect((error as Error).message).toContain(`Perch does not answer at ${server.url}`);
});

test('a create whose connection breaks is sent again with the same key', async () => {
  let count = 0;
  await using server = await fakeServer((request, response) => {
    if (++count < 3) request.socket.destroy();
    else json(response, 201, sandbox);
  });
  expect(await new Perch({ url: server.url, apiKey }).sandboxes.create()).toEqual(sandbox);
  const keys = server.requests.map((request) => request.headers['idempotency-key']);
  expect(keys).toHaveLength(3);
  expect(new Set(keys).size).toBe(1);
  expect(keys[0]).toMatch(/^[\w-]{36}$/);
});

test('retries are bounded, and what may not be repeated is sent once', async () => {
  await using server = await fakeServer((request) => request.socket.destroy());
  const perch = new Perch({ url: server.url, apiKey, retries: 1 });
  expect(await failure(perch.sandboxes.create())).toMatchObject({ sent: true });
  expect(server.requests).toHaveLength(2);
  expect(await failure(perch.sandboxes.exec('sb0', { cmd: 'x' }))).toBeInstanceOf(ConnectionError);
  expect(server.requests).toHaveLength(3);
});

test('Retry-After is waited for only when that is asked', async () => {
  let count = 0;
  const busy = new PerchError('rate_limited', 'Slow down.', { retry_after_sec: 0 }).toBody();
  await using server = await fakeServer((_request, response) => {
    if (++count % 2 === 1) json(response, 429, busy, { 'retry-after': '0' });
    else json(response, 200, sandbox);
  });
  expect(await failure(new Perch({ url: server.url, apiKey }).sandboxes.get('sb0'))).toMatchObject({
    code: 'rate_limited',
  });
  count = 0;
  expect(await new Perch({ url: server.url, apiKey, waitWhenBusyMs: 1000 }).sandboxes.get('sb0')).toEqual(
    sandbox,
  );
});

test('a wait longer than allowed is an error at once', async () => {
  const busy = new PerchError('rate_limited', 'Slow down.', { retry_after_sec: 60 }).toBody();
  await using server = await fakeServer((_request, response) =>
    json(response, 429, busy, { 'retry-after': '60' }),
  );
  const perch = new Perch({ url: server.url, apiKey, waitWhenBusyMs: 1000 });
  expect(await failure(perch.sandboxes.get('sb0'))).toMatchObject({ code: 'rate_limited' });
});

test('a request that takes too long ends', async () => {
  await using server = await fakeServer(() => {});
  const error = await failure(
    new Perch({ url: server.url, apiKey, timeoutMs: 50, retries: 0 }).sandboxes.get('sb0'),
  );
  expect(error).toBeInstanceOf(ConnectionError);
  expect((error as Error).message).toContain('TIMEOUT');
});

test('a caller who cancels gets its own reason', async () => {
  await using server = await fakeServer(() => {});
  const cancel = new AbortController();
  setTimeout(() => cancel.abort(new Error('enough')), 30);
  const { signal } = cancel;
  await expect(new Perch({ url: server.url, apiKey }).sandboxes.get('sb0', { signal })).rejects.toThrow(
    'enough',
  );
});

test('what is not Perch is told apart', async () => {
  await using server = await fakeServer((_request, response) => response.end('<html>'));
  expect(await failure(new Perch({ url: server.url, apiKey }).sandboxes.get('sb0'))).toBeInstanceOf(
    UnexpectedAnswerError,
  );
});

test('an unhealthy Perch is an answer, not an error', async () => {
  const health = { status: 'unavailable', problems: ['no host'], version: '0' };
  await using server = await fakeServer((_request, response) => json(response, 503, health));
  expect(await new Perch({ url: server.url }).health()).toEqual(health);
});
