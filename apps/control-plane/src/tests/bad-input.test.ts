/** Wrong input is refused with a message that says what to do, and makes nothing. */
import { connect as dial } from 'node:net';
import { gzipSync } from 'node:zlib';
import type { ErrorBody, Sandbox } from '@perch/protocol';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestPlane } from '../testing/index.ts';

let plane: TestPlane;
let sandbox: Sandbox;
beforeAll(async () => {
  plane = await TestPlane.start();
  sandbox = await plane.create();
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());

async function refusal(answer: Response): Promise<ErrorBody['error'] & { status: number }> {
  expect(answer.headers.get('content-type')).toMatch(/^application\/json/);
  const { error } = (await answer.json()) as ErrorBody;
  expect(error.remedy).not.toBe('');
  return { ...error, status: answer.status };
}

async function nothingWasMade<T>(act: () => Promise<T>): Promise<T> {
  const before = plane.host.created.length;
  const result = await act();
  expect(plane.host.created.length).toBe(before);
  const { items } = (await (await plane.fetch('/v1/sandboxes?status=creating,running,failed')).json()) as {
    items: Sandbox[];
  };
  expect(items.map(({ id }) => id)).toEqual([sandbox.id]);
  return result;
}

test.each([
  [{ vcpus: 0 }, 400, 'vcpus must be an integer between 1 and 16, got 0'],
  [{ vcpus: 1000 }, 400, 'vcpus must be an integer between 1 and 16, got 1000'],
  [{ vcpus: 1.5 }, 400, 'vcpus must be an integer between 1 and 16, got 1.5'],
  [{ vcpus: '1' }, 400, 'vcpus must be an integer between 1 and 16, got "1"'],
  [{ memory_mb: 10 * 1024 * 1024 }, 400, 'memory_mb must be an integer between 128 and 65536, got 10485760'],
  [{ disk_mb: 1e300 }, 400, 'disk_mb must be an integer between 64 and 65536, got 1e+300'],
  [{ disk_mb: 64 }, 400, 'disk_mb must be at least 1024 for template "base", got 64'],
  [{ timeout_sec: 0 }, 400, 'timeout_sec must be an integer between 1 and 604800, got 0'],
  [{ timeout_mode: 'x' }, 400, 'timeout_mode must be one of idle, fixed, got "x"'],
  [{ template: 'nope' }, 404, 'No template "nope".'],
  [{ template: '../base' }, 400, /^template must be a string that matches .*, got "..\/base"$/],
  [{ template: 'ba\0se' }, 400, /^template must/],
  [{ unknown: 1 }, 400, 'unknown is unknown'],
  [{ env: { 'A=B': 'x' } }, 400, /^env\.A=B is no valid name/],
  [{ metadata: { a: { b: 1 } } }, 400, /^metadata\.a must be a string/],
  [[], 400, 'the body must be an object, got []'],
  ['text', 400, 'the body must be an object, got "text"'],
  [null, 400, 'the body must be an object, got null'],
])('a create with %j is refused', async (body, status, message) => {
  const error = await nothingWasMade(async () => refusal(await plane.fetch('/v1/sandboxes', { json: body })));
  expect(error.status).toBe(status);
  expect(error.message).toMatch(message);
});

test.each([
  ['malformed JSON', '{"vcpus":', 400, 'malformed_body'],
  ['JSON nested deeply', '['.repeat(10_000), 400, 'malformed_body'],
  ['a space', ' ', 400, 'malformed_body'],
  ['a line end', '\r\n', 400, 'malformed_body'],
  ['a prototype', '{"__proto__":{"vcpus":1}}', 400, 'malformed_body'],
  ['half a surrogate pair', '{"metadata":{"a":"\\ud800"}}', 400, 'malformed_body'],
  ['a body that is too large', `{"metadata":{"a":"${'x'.repeat(2_000_000)}"}}`, 413, 'body_too_large'],
])('a create with %s is refused', async (_name, body, status, code) => {
  const headers = { 'content-type': 'application/json' };
  const error = await nothingWasMade(async () =>
    refusal(await plane.fetch('/v1/sandboxes', { method: 'POST', headers, body })),
  );
  expect(error).toMatchObject({ status, code });
});

test.each(['pause', 'resume', 'fork'])('a body of null to %s is refused', async (route) => {
  const path = `/v1/sandboxes/${sandbox.id}/${route}`;
  const error = await nothingWasMade(async () => refusal(await plane.fetch(path, { json: null })));
  expect(error).toMatchObject({ status: 400, message: 'the body must be an object, got null' });
});

test.each(['text/plain', 'application/x-www-form-urlencoded', 'application/xml'])(
  'a body of type %s is refused',
  async (type) => {
    const answer = await plane.fetch('/v1/sandboxes', {
      method: 'POST',
      headers: { 'content-type': type },
      body: 'vcpus=1',
    });
    expect(await refusal(answer)).toMatchObject({ status: 415, code: 'unsupported_media_type' });
  },
);

test.each([
  ['gzip', 'gzip'],
  ['identity, BR', 'br'],
])('JSON with the content encoding %s is refused, since nobody would unpack it', async (encoding, named) => {
  const headers = { 'content-type': 'application/json', 'content-encoding': encoding };
  for (const path of ['', `/${sandbox.id}/exec`]) {
    const answer = await nothingWasMade(() =>
      plane.fetch(`/v1/sandboxes${path}`, { method: 'POST', headers, body: gzipSync('{"cmd":"true"}') }),
    );
    expect(answer.headers.get('accept-encoding')).toBe('identity');
    expect(await refusal(answer)).toMatchObject({
      ...{ status: 415, code: 'unsupported_media_type', details: { content_type: named } },
      message: `JSON is taken without a content encoding, and not with ${named}.`,
    });
  }
  const plain = { ...headers, 'content-encoding': 'Identity' };
  const body = '{"timeout_sec":100}';
  const path = `/v1/sandboxes/${sandbox.id}/timeout`;
  expect((await plane.fetch(path, { method: 'POST', headers: plain, body })).status).toBe(200);
});

test.each([
  ['GET', '/v1/sandboxes/sb000000000000000000'],
  ['DELETE', '/v1/sandboxes/sb000000000000000000'],
  ['GET', '/v1/sandboxes/nonsense'],
  ['GET', '/v1/sandboxes/..%2F..%2Fetc'],
  ['DELETE', '/v1/sandboxes/sb00000000000000000%00'],
  ['GET', `/v1/sandboxes/${'x'.repeat(200)}`],
  ['GET', '/v1/sandboxes/sb000000000000000000/logs'],
])('%s %s: an unknown id is not found', async (method, path) => {
  const error = await refusal(await plane.fetch(path, { method }));
  expect(error).toMatchObject({ status: 404, code: 'sandbox_not_found' });
});

test.each([
  ['exec', { cmd: 'true' }],
  ['files/read', { path: 'x' }],
  ['timeout', { timeout_sec: 5 }],
  ['exec/ticket', {}],
])('%s of an unknown sandbox is not found', async (route, json) => {
  const answer = await plane.fetch(`/v1/sandboxes/sb000000000000000000/${route}`, { json });
  expect(await refusal(answer)).toMatchObject({ status: 404, code: 'sandbox_not_found' });
});

test.each([
  ['exec', {}, 'cmd is required'],
  ['exec', { cmd: '' }, /^cmd must be/],
  ['exec', { cmd: 'a\0b' }, /^cmd must be .* without NUL/],
  ['exec', { cmd: 'ls', args: [1] }, /^args\.0 must be a string/],
  ['exec', { cmd: 'ls', timeout_sec: 0 }, /^timeout_sec must be an integer between 1 and 86400, got 0/],
  ['exec', { cmd: 'ls', user: '../root' }, /^user must be/],
  ['exec', { cmd: 'ls', shell: true }, 'shell is unknown'],
  ['timeout', { timeout_sec: 1.5 }, /^timeout_sec must be an integer/],
  ['files/read', {}, 'path is required'],
  ['files/read', { path: 'a\0b' }, /^path must be/],
  ['files/read', { path: '' }, /^path must be/],
  ['files/read', { path: 'x'.repeat(5000) }, /^path must be/],
  ['files/mkdir', { path: 7 }, /^path must be/],
  ['files/move', { source: 'a' }, 'destination is required'],
])('%s with %j is refused', async (route, json, message) => {
  const error = await refusal(await plane.fetch(`/v1/sandboxes/${sandbox.id}/${route}`, { json }));
  expect(error).toMatchObject({ status: 400, code: 'validation_failed' });
  expect(error.message).toMatch(message);
});

test.each([
  ['?limit=0', /^limit must be an integer between 1 and 1000/],
  ['?limit=1001', /^limit must/],
  ['?limit=ten', /^limit must/],
  ['?limit=1&limit=2', /^limit must/],
  ['?cursor=nonsense', /^cursor must be the next_cursor/],
  ['?status=alive', /^status must be one or more of creating, running/],
  ['?status=', /^status must be/],
  ['?metadata.=x', /^metadata\. must be/],
  ['?metadata=x', 'metadata is unknown'],
  ['?colour=red', 'colour is unknown'],
])('a list with %s is refused', async (query, message) => {
  const error = await refusal(await plane.fetch(`/v1/sandboxes${query}`));
  expect(error).toMatchObject({ status: 400, code: 'validation_failed' });
  expect(error.message).toMatch(message);
});

test('a key that is not printable is no idempotency key', async () => {
  const headers = { 'idempotency-key': 'two words' };
  const error = await nothingWasMade(async () =>
    refusal(await plane.fetch('/v1/sandboxes', { json: {}, headers })),
  );
  expect(error).toMatchObject({ status: 400, code: 'validation_failed' });
});

test('an unknown path is 404, and a known one with another method 405 with what it takes', async () => {
  expect(await refusal(await plane.fetch('/v1/nothing'))).toMatchObject({
    status: 404,
    code: 'route_not_found',
    message: 'There is no GET /v1/nothing.',
  });
  const answer = await plane.fetch(`/v1/sandboxes/${sandbox.id}`, { method: 'PUT' });
  expect(await refusal(answer)).toMatchObject({
    status: 405,
    code: 'method_not_allowed',
    details: { allow: ['GET', 'HEAD', 'DELETE'] },
  });
});

async function raw(text: string): Promise<string> {
  const { hostname, port } = new URL(plane.url);
  const socket = dial(Number(port), hostname);
  socket.end(text);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

test.each([
  [
    'a malformed URL',
    'GET /v1/sandboxes/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    400,
    'malformed_request',
  ],
  ['no HTTP at all', 'hello\r\n\r\n', 400, 'malformed_request'],
  [
    'headers that are too large',
    `GET / HTTP/1.1\r\nHost: x\r\nX-A: ${'a'.repeat(40_000)}\r\n\r\n`,
    431,
    'headers_too_large',
  ],
])('%s gets an error of the usual form', async (_name, text, status, code) => {
  const answer = await raw(text);
  expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  const body = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4)) as ErrorBody;
  expect(body.error.code).toBe(code);
});
