/** Wrong input is refused in words that help, creates nothing and disturbs nobody. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Health } from '../packages/protocol/src/index.ts';
import { newestIds, type Refusal, refusal, refusalOf, rest } from './setup/rest.ts';
import { newSandbox, sharedPerch } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

const perch = sharedPerch();
const unknownId = `sb${'0'.repeat(18)}`;
const json = { 'content-type': 'application/json' };

let id: string;
beforeAll(async () => {
  const sandbox = await newSandbox(perch);
  ({ id } = sandbox);
  return () => sandbox[Symbol.asyncDispose]();
});

let before: string[];
beforeEach(async () => {
  before = await newestIds();
});
afterEach(async () => {
  expect(await newestIds()).toEqual(before);
  const health = await rest('/health', { headers: { 'x-api-key': '' } });
  expect([health.status, ((await health.json()) as Health).problems]).toEqual([200, []]);
});

test.each<[string, object, RegExp | string]>([
  ['0 vcpus', { vcpus: 0 }, 'vcpus must be an integer between 1 and 16, got 0'],
  ['1000 vcpus', { vcpus: 1000 }, 'vcpus must be an integer between 1 and 16, got 1000'],
  ['1.5 vcpus', { vcpus: 1.5 }, 'vcpus must be an integer between 1 and 16, got 1.5'],
  ['"2" vcpus', { vcpus: '2' }, 'vcpus must be an integer between 1 and 16, got "2"'],
  ['null vcpus', { vcpus: null }, 'vcpus must be an integer between 1 and 16, got null'],
  [
    '10 TB memory',
    { memory_mb: 10_000_000 },
    'memory_mb must be an integer between 128 and 65536, got 10000000',
  ],
  ['-1 MB memory', { memory_mb: -1 }, 'memory_mb must be an integer between 128 and 65536, got -1'],
  [
    'a disk without an end',
    { disk_mb: 1e300 },
    /^disk_mb must be an integer between 64 and 65536, got 1e\+300$/,
  ],
  [
    'a disk that its template does not fit',
    { disk_mb: 64 },
    /^disk_mb must be at least \d+ for template "base", got 64$/,
  ],
  ['0 s of life', { timeout_sec: 0 }, 'timeout_sec must be an integer between 1 and 604800, got 0'],
  ['an unknown mode', { timeout_mode: 'never' }, 'timeout_mode must be one of idle, fixed, got "never"'],
  ['an unknown end', { on_timeout: 'sleep' }, 'on_timeout must be one of destroy, pause, got "sleep"'],
  ['auto_resume that is no boolean', { auto_resume: 'yes' }, /^auto_resume must be .*, got "yes"$/],
  ['an unknown field', { cpus: 2 }, 'cpus is unknown'],
  [
    'a name with ../',
    { template: '../base' },
    /^template must be a string that matches .+, got "\.\.\/base"$/,
  ],
  ['a name with NUL', { template: 'ba\0se' }, /^template must be a string that matches/],
  ['a name that is empty', { template: '' }, /^template must be a string that matches/],
  ['a label with NUL', { metadata: { a: 'x\0y' } }, /^metadata\.a must be a string .*without NUL/],
  ['a label that is no text', { metadata: { a: 1 } }, /^metadata\.a must be a string/],
  [
    '100 labels',
    { metadata: Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`k${i}`, 'v'])) },
    /^metadata must be an object of at most 64 entries/,
  ],
  ['a variable that is no name', { env: { 'A=B': 'x' } }, /^env\.A=B is no valid name/],
  ['an array', [], 'the body must be an object, got []'],
  [
    'several mistakes',
    { vcpus: 0, memory_mb: 1, x: 1 },
    /vcpus must .*; memory_mb must .*; x is unknown|x is unknown; vcpus .*; memory_mb/,
  ],
])('a create with %s', async (_name, body, message) => {
  const error = await refusal(await rest('/v1/sandboxes', { json: body }));
  expect(error).toMatchObject({
    status: 400,
    code: expect.stringMatching(/^(validation_failed|disk_too_small)$/),
  });
  expect(error.message).toMatch(message);
});

test('a create from a template that is not there', async () => {
  const error = await refusal(await rest('/v1/sandboxes', { json: { template: 'nope' } }));
  expect(error).toMatchObject({ status: 404, code: 'template_not_found', message: 'No template "nope".' });
  expect(error.remedy).toContain('GET /v1/templates');
});

test.each<[string, string, number, string, RegExp]>([
  ['malformed JSON', '{"vcpus":', 400, 'malformed_body', /^The body is no valid JSON/],
  ['JSON with a comment', '{"vcpus":1/*one*/}', 400, 'malformed_body', /^The body is no valid JSON/],
  [
    'deeply nested arrays',
    `{"metadata":${'['.repeat(100_000)}`,
    400,
    'malformed_body',
    /nested deeper than 32/,
  ],
  [
    'deeply nested objects',
    `${'{"a":'.repeat(1000)}1${'}'.repeat(1000)}`,
    400,
    'malformed_body',
    /nested deeper than 32/,
  ],
  ['__proto__', '{"__proto__":{"vcpus":2}}', 400, 'malformed_body', /__proto__ is no name/],
  [
    'an escaped __proto__',
    '{"metadata":{"\\u005f_proto__":"x"}}',
    400,
    'malformed_body',
    /__proto__ is no name/,
  ],
  [
    'constructor',
    '{"constructor":{"prototype":{"vcpus":2}}}',
    400,
    'validation_failed',
    /^constructor is unknown/,
  ],
  ['half of a surrogate pair', '{"metadata":{"a":"\\ud800"}}', 400, 'malformed_body', /surrogate/],
  [
    'a body that is too large',
    `{"metadata":{"a":"${'x'.repeat(2_000_000)}"}}`,
    413,
    'body_too_large',
    /larger than 1048576 bytes/,
  ],
])('a create with %s', async (_name, body, status, code, message) => {
  const answer = await rest('/v1/sandboxes', { method: 'POST', headers: json, body });
  const error = await refusal(answer);
  expect(error).toMatchObject({ status, code });
  expect(error.message).toMatch(message);
});

test('a create with bytes that are no UTF-8', async () => {
  const body = new Uint8Array([...Buffer.from('{"metadata":{"a":"'), 0xff, ...Buffer.from('"}}')]);
  const error = await refusal(await rest('/v1/sandboxes', { method: 'POST', headers: json, body }));
  expect(error).toMatchObject({ status: 400, code: 'malformed_body' });
});

test('a create with a body that is too large and has no length', async () => {
  const chunk = new TextEncoder().encode('x'.repeat(100_000));
  let left = 100;
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => (left-- > 0 ? controller.enqueue(chunk) : controller.close()),
  });
  const answer = await rest('/v1/sandboxes', { method: 'POST', headers: json, body, duplex: 'half' });
  expect(await refusal(answer)).toMatchObject({ status: 413, code: 'body_too_large' });
});

test.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'nonsense'])(
  'a create of type %s',
  async (type) => {
    const body = '{"vcpus":1}';
    const answer = await rest('/v1/sandboxes', { method: 'POST', headers: { 'content-type': type }, body });
    expect(await refusal(answer)).toMatchObject({
      status: 415,
      code: 'unsupported_media_type',
      message: `This route does not take the content type ${type}.`,
      remedy: expect.stringContaining('application/json'),
    });
  },
);

test('a create with an Idempotency-Key that has a space', async () => {
  const answer = await rest('/v1/sandboxes', { json: {}, headers: { 'idempotency-key': 'two words' } });
  const error = await refusal(answer);
  expect(error).toMatchObject({ status: 400, code: 'validation_failed' });
  expect(error.message).toMatch(/^Idempotency-Key must be 1 to 255 printable/);
});

test.each<[string, Record<string, string>, string]>([
  ['no key', {}, 'The X-API-Key header is missing.'],
  ['an empty key', { 'x-api-key': '' }, 'The API key is not valid.'],
  ['a wrong key', { 'x-api-key': `perch_${'0'.repeat(40)}` }, 'The API key is not valid.'],
  ['a key in the wrong place', { authorization: 'Bearer KEY' }, 'The X-API-Key header is missing.'],
])('a call with %s', async (_name, headers, message) => {
  const { url, key } = shared;
  const given = Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, value.replace('KEY', key)]),
  );
  const routes = [
    ['POST', '/v1/sandboxes'],
    ['GET', '/v1/sandboxes'],
    ['DELETE', `/v1/sandboxes/${id}`],
    ['GET', '/metrics'],
  ];
  for (const [method, path] of routes) {
    const answer = await fetch(`${url}${path}`, {
      method: method ?? '',
      headers: { ...given, ...json },
      ...(method === 'POST' ? { body: '{}' } : {}),
    });
    const error = await refusal(answer);
    expect(error).toMatchObject({ status: 401, code: 'unauthorized', message });
    expect(error.remedy).toContain('X-API-Key');
  }
  expect((await perch.sandboxes.get(id)).status).toBe('running');
});

test.each([
  ['GET', `/v1/sandboxes/${unknownId}`],
  ['DELETE', `/v1/sandboxes/${unknownId}`],
  ['GET', '/v1/sandboxes/nonsense'],
  ['GET', '/v1/sandboxes/..%2F..%2Fetc%2Fpasswd'],
  ['GET', '/v1/sandboxes/sb0000000000000000%00'],
  ['GET', `/v1/sandboxes/${'x'.repeat(250)}`],
  ['GET', `/v1/sandboxes/${unknownId}/logs`],
  ['GET', `/v1/sandboxes/${unknownId}/files?path=/`],
])('%s %s: an unknown id', async (method, path) => {
  const error = await refusal(await rest(path, { method }));
  expect(error).toMatchObject({ status: 404, code: 'sandbox_not_found' });
  expect(error.remedy).toContain('GET /v1/sandboxes');
});

test.each([
  ['exec', { cmd: 'true' }],
  ['exec/ticket', undefined],
  ['timeout', { timeout_sec: 5 }],
  ['pause', undefined],
  ['resume', undefined],
  ['files/read', { path: 'x' }],
  ['files/mkdir', { path: 'x' }],
])('POST %s: an unknown id', async (route, body) => {
  const answer = await rest(`/v1/sandboxes/${unknownId}/${route}`, { method: 'POST', json: body });
  expect(await refusal(answer)).toMatchObject({ status: 404, code: 'sandbox_not_found' });
});

test.each<[string, object, RegExp | string]>([
  ['exec', {}, 'cmd is required'],
  ['exec', { cmd: '' }, /^cmd must be a string/],
  ['exec', { cmd: 'a\0b' }, /^cmd must be .* without NUL/],
  ['exec', { cmd: 'ls', args: 'x' }, /^args must be an array/],
  ['exec', { cmd: 'ls', args: ['a\0'] }, /^args\.0 must be .* without NUL/],
  ['exec', { cmd: 'ls', env: { 'a b': 'c' } }, /^env\.a b is no valid name/],
  ['exec', { cmd: 'ls', timeout_sec: 0 }, /^timeout_sec must be an integer between 1 and 86400, got 0/],
  ['exec', { cmd: 'ls', user: '../root' }, /^user must be/],
  ['exec', { cmd: 'ls', shell: true }, 'shell is unknown'],
  ['timeout', {}, 'timeout_sec is required'],
  ['timeout', { timeout_sec: 1e12 }, /^timeout_sec must be an integer/],
  ['pause', { force: true }, 'force is unknown'],
  ['resume', { force: true }, 'force is unknown'],
  ['resume', [], 'the body must be an object, got []'],
  ['files/read', { path: '' }, /^path must be/],
  ['files/read', { path: 'a\0b' }, /^path must be .* without NUL/],
  ['files/read', { path: 'x'.repeat(5000) }, /^path must be/],
  ['files/mkdir', { path: 7 }, /^path must be/],
  ['files/move', { source: 'a' }, 'destination is required'],
])('POST %s with %j', async (route, body, message) => {
  const error = await refusal(await rest(`/v1/sandboxes/${id}/${route}`, { json: body }));
  expect(error).toMatchObject({ status: 400, code: 'validation_failed' });
  expect(error.message).toMatch(message);
});

test.each([
  ['limit=0', /^limit must be an integer between 1 and 1000, got 0/],
  ['limit=1e3', /^limit must/],
  ['limit=1&limit=2', /^limit must/],
  ['cursor=nonsense', /^cursor must be the next_cursor/],
  ['status=alive', /^status must be one or more of creating, running/],
  ['metadata.=x', /^metadata\. must be/],
  ['metadata.a=%00', /^metadata\.a must be/],
  ['colour=red', /^colour is unknown/],
])('a list with %s', async (query, message) => {
  const error = await refusal(await rest(`/v1/sandboxes?${query}`));
  expect(error).toMatchObject({ status: 400, code: 'validation_failed' });
  expect(error.message).toMatch(message);
});

test.each([
  ['limit=0', /^limit must be an integer between 1 and 1000, got 0/],
  ['cursor=%00', /^cursor must be the next_cursor/],
  ['type=image', /^type must be/],
  ['colour=red', /^colour is unknown/],
])('a list of snapshots with %s', async (query, message) => {
  const error = await refusal(await rest(`/v1/snapshots?${query}`));
  expect(error).toMatchObject({ status: 400, code: 'validation_failed' });
  expect(error.message).toMatch(message);
});

test('a path that is not there, and a method that a path does not take', async () => {
  expect(await refusal(await rest('/v1/nothing'))).toMatchObject({
    status: 404,
    code: 'route_not_found',
    remedy: expect.stringContaining('/docs'),
  });
  for (const [method, path, allow] of [
    ['PUT', `/v1/sandboxes/${id}`, ['GET', 'HEAD', 'DELETE']],
    ['PATCH', '/v1/sandboxes', ['POST', 'GET', 'HEAD']],
    ['GET', `/v1/sandboxes/${id}/exec`, ['POST']],
    ['DELETE', '/health', ['GET', 'HEAD']],
  ] as const) {
    const error = await refusal(await rest(path, { method }));
    expect(error).toMatchObject({ status: 405, code: 'method_not_allowed' });
    expect(new Set(error.details.allow as string[])).toEqual(new Set(allow));
  }
});

/** Sends bytes as they are. */
async function send(text: string): Promise<Refusal> {
  const { hostname, port } = new URL(shared.url);
  const socket = connect(Number(port), hostname);
  let answer = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    answer += chunk;
  });
  socket.write(text);
  await once(socket, 'close');
  const [head = '', body = ''] = answer.split('\r\n\r\n');
  const type = /^content-type: (.*)$/im.exec(head)?.[1];
  return refusalOf(Number(head.split(' ')[1]), type, body);
}

test.each<[string, () => string, number, string]>([
  ['bad percent-encoding', () => 'GET /v1/sandboxes/%zz HTTP/1.1\r\nHost: x', 400, 'malformed_request'],
  [
    'half of a percent-encoded character',
    () => 'GET /v1/sandboxes/%e2%82 HTTP/1.1\r\nHost: x',
    400,
    'malformed_request',
  ],
  ['no HTTP', () => 'hello', 400, 'malformed_request'],
  [
    'a wrong length',
    () => 'POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: -1',
    400,
    'malformed_request',
  ],
  [
    'a length and chunks',
    () => 'POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked',
    400,
    'malformed_request',
  ],
  [
    'large headers',
    () => `GET /health HTTP/1.1\r\nHost: x\r\nX-A: ${'a'.repeat(40_000)}`,
    431,
    'headers_too_large',
  ],
])('a request with %s', async (_name, text, status, code) => {
  const { key } = shared;
  expect(await send(`${text()}\r\nX-API-Key: ${key}\r\nConnection: close\r\n\r\n`)).toMatchObject({
    status,
    code,
  });
});

test('a body that never ends is refused at once, and its connection cut in the end', async () => {
  const head = 'POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n';
  const error = await send(`${head}Content-Type: application/json\r\n\r\n5\r\nhello\r\n`);
  expect(error).toMatchObject({ status: 401, code: 'unauthorized' });
});
