/** The API describes itself, to programs and to people, without a key and without any other site. */
import { expect, test } from 'vitest';
import { refusal, rest } from './setup/rest.ts';
import { newSandbox, sh, sharedPerch } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

type Json = Record<string, unknown>;
interface Operation {
  parameters?: { name: string; in: string; required: boolean; schema: Json }[];
  requestBody?: { content: Record<string, { schema: Json }> };
  responses: Record<string, { description: string; content?: Record<string, { schema: Json }> }>;
  security?: Json[];
}
interface Document {
  openapi: string;
  info: { title: string; version: string };
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Json>; securitySchemes: Json };
  security: Json[];
}

const { url } = shared;
const open = (path: string) => fetch(`${url}${path}`);
const describe = async () => (await (await open('/openapi.json')).json()) as Document;

const routes = [
  'POST /v1/sandboxes',
  'GET /v1/sandboxes',
  'GET /v1/sandboxes/{id}',
  'DELETE /v1/sandboxes/{id}',
  'GET /v1/sandboxes/{id}/logs',
  'POST /v1/sandboxes/{id}/timeout',
  'POST /v1/sandboxes/{id}/pause',
  'POST /v1/sandboxes/{id}/resume',
  'POST /v1/sandboxes/{id}/exec',
  'POST /v1/sandboxes/{id}/exec/ticket',
  'GET /v1/sandboxes/{id}/exec/stream',
  'GET /v1/sandboxes/{id}/commands',
  'GET /v1/sandboxes/{id}/commands/{pid}',
  'DELETE /v1/sandboxes/{id}/commands/{pid}',
  'GET /v1/sandboxes/{id}/files',
  'GET /v1/sandboxes/{id}/files/archive',
  'GET /v1/sandboxes/{id}/files/stat',
  'POST /v1/sandboxes/{id}/files/read',
  'POST /v1/sandboxes/{id}/files/write',
  'GET /v1/sandboxes/{id}/files/stream/read',
  'POST /v1/sandboxes/{id}/files/stream/write',
  'POST /v1/sandboxes/{id}/files/mkdir',
  'POST /v1/sandboxes/{id}/files/move',
  'POST /v1/sandboxes/{id}/files/remove',
  'GET /v1/sandboxes/{id}/ports',
  'GET /v1/sandboxes/{id}/ports/{port}/stream',
  'GET /v1/templates',
  'POST /v1/templates/{name}/ready',
  'GET /v1/ready',
  'GET /v1/hosts',
  'GET /v1/api-keys',
  'POST /v1/api-keys',
  'DELETE /v1/api-keys/{id}',
  'GET /health',
  'GET /metrics',
  'GET /openapi.json',
  'GET /docs',
  'GET /test',
  'GET /',
];
const withoutKey = new Set(['GET /health', 'GET /openapi.json', 'GET /docs', 'GET /test', 'GET /']);

function operations({ paths }: Document): [string, Operation][] {
  return Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, one]): [string, Operation] => [
      `${method.toUpperCase()} ${path}`,
      one,
    ]),
  );
}

/** Every object in a JSON value, with its path. */
function* objects(value: unknown, at = '#'): Generator<[string, Json]> {
  if (value === null || typeof value !== 'object') return;
  if (!Array.isArray(value)) yield [at, value as Json];
  for (const [key, inner] of Object.entries(value)) yield* objects(inner, `${at}/${key}`);
}

test('openapi.json is OpenAPI 3.1 and has every route', async () => {
  const answer = await open('/openapi.json');
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-type')).toMatch(/^application\/json/);
  const document = (await answer.json()) as Document;
  expect(document.openapi).toMatch(/^3\.1\.\d+$/);
  expect(document.info).toMatchObject({ title: 'Perch', version: expect.stringMatching(/^\d+\.\d+\.\d+/) });
  expect(operations(document).map(([name]) => name)).toEqual(expect.arrayContaining(routes));
});

test('all references resolve and no schema is left unused or without a type', async () => {
  const document = await describe();
  const used = new Set<string>();
  for (const [at, { $ref, $id }] of objects(document)) {
    expect($id, at).toBeUndefined();
    if (typeof $ref !== 'string') continue;
    const name = /^#\/components\/schemas\/(\w+)$/.exec($ref)?.[1] ?? '';
    expect(document.components.schemas, `${at} → ${$ref}`).toHaveProperty(name);
    used.add(name);
  }
  expect([...used].sort()).toEqual(Object.keys(document.components.schemas).sort());
  const schemas = operations(document).flatMap(([name, { parameters = [], requestBody, responses }]) =>
    [
      ...parameters.map(({ schema }) => schema),
      ...[requestBody, ...Object.values(responses)].flatMap((holder) =>
        Object.values(holder?.content ?? {}).map(({ schema }) => schema),
      ),
    ].map((schema) => [name, schema] as const),
  );
  for (const [name, schema] of schemas) {
    expect(
      ['type', '$ref', 'anyOf', 'enum'].some((key) => key in schema),
      `${name}: ${JSON.stringify(schema)}`,
    ).toBe(true);
  }
});

test('every operation tells its parameters, its answers, and whether it needs a key', async () => {
  const document = await describe();
  expect(document.security).toEqual([{ apiKey: [] }]);
  for (const [name, operation] of operations(document)) {
    const inPath = [...name.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => parameter);
    const told = (operation.parameters ?? []).filter((one) => one.in === 'path');
    expect(
      told.map((one) => one.name),
      name,
    ).toEqual(inPath);
    expect(
      told.every(({ required }) => required),
      name,
    ).toBe(true);
    expect(
      Object.keys(operation.responses).some((status) => /^[12]\d\d$/.test(status)),
      name,
    ).toBe(true);
    for (const [status, { description, content }] of Object.entries(operation.responses)) {
      expect(status, name).toMatch(/^[1-5]\d\d$/);
      expect(description, `${name} ${status}`).not.toBe('');
      if (Number(status) < 400 || name === 'GET /health') continue;
      expect(content?.['application/json']?.schema, `${name} ${status}`).toEqual({
        $ref: '#/components/schemas/Error',
      });
    }
    if (withoutKey.has(name)) expect(operation.security, name).toEqual([]);
    else expect(Object.keys(operation.responses), name).toContain('401');
  }
});

test('uploads are described with the body they take', async () => {
  const { paths } = await describe();
  for (const [route, type] of [
    ['write', 'multipart/form-data'],
    ['stream/write', 'application/octet-stream'],
  ]) {
    const operation = paths[`/v1/sandboxes/{id}/files/${route}`]?.post;
    expect(Object.keys(operation?.requestBody?.content ?? {}), route).toEqual([type]);
  }
});

test('what needs no key needs none, and everything else does', async () => {
  for (const [name] of operations(await describe())) {
    const [method = '', path = ''] = name.split(' ');
    const answer = await fetch(`${url}${path.replace('{id}', `sb${'0'.repeat(18)}`)}`, { method });
    if (withoutKey.has(name)) expect([name, answer.status]).toEqual([name, 200]);
    else expect([name, (await refusal(answer)).code]).toEqual([name, 'unauthorized']);
  }
});

test('the page for people is whole in itself and lets nothing else in', async () => {
  const answer = await open('/docs');
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-type')).toMatch(/^text\/html/);
  const policy = answer.headers.get('content-security-policy') ?? '';
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toMatch(/unsafe|https?:|\*/);
  const html = await answer.text();
  expect(html).not.toMatch(/<(script|iframe|img|object|embed|base|form)\b|@import|url\(/i);
  const links = [...html.matchAll(/\b(?:href|src|action)=["']([^"']*)/gi)].map(([, target]) => target);
  expect(links.length).toBeGreaterThan(0);
  for (const link of links) expect(link).toMatch(/^(#|\/openapi\.json$)/);
  for (const route of routes) expect(html).toContain(route.split(' ')[1]);
});

test('health says in one word whether a sandbox could be created', async () => {
  const answer = await open('/health');
  expect(answer.status).toBe(200);
  expect(await answer.json()).toEqual({
    status: 'ok',
    problems: [],
    version: expect.stringMatching(/^\d+\.\d+\.\d+/),
  });
  const head = await fetch(`${url}/health`, { method: 'HEAD' });
  expect([head.status, await head.text()]).toEqual([200, '']);
});

/** The value of one series; 0 when there is none yet. */
async function metric(series: string): Promise<number> {
  const answer = await rest('/metrics');
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-type')).toMatch(/^text\/plain; version=/);
  const line = (await answer.text()).split('\n').find((one) => one.startsWith(`${series} `));
  return Number(line?.slice(series.length + 1) ?? 0);
}

test('metrics count what is done', async () => {
  const series = {
    commands: 'perch_execs_total{kind="whole",outcome="exit"}',
    running: 'perch_sandboxes{status="running"}',
    creates: 'perch_http_request_duration_seconds_count{method="POST",route="/v1/sandboxes",status="201"}',
    received: 'perch_file_bytes_total{direction="in"}',
    sent: 'perch_file_bytes_total{direction="out"}',
  };
  const all = async () =>
    Object.fromEntries(
      await Promise.all(Object.entries(series).map(async ([name, one]) => [name, await metric(one)])),
    );
  const before = await all();
  const perch = sharedPerch();
  await using sandbox = await newSandbox(perch);
  await sh(perch, sandbox.id, 'true');
  await perch.sandboxes.files.write(sandbox.id, 'file', new Uint8Array(1_000_000));
  await perch.sandboxes.files.read(sandbox.id, 'file');
  const after = await all();
  expect(after.commands).toBe(before.commands + 1);
  expect(after.running).toBe(before.running + 1);
  expect(after.creates).toBe(before.creates + 1);
  expect(after.received).toBeGreaterThanOrEqual(before.received + 1_000_000);
  expect(after.sent).toBeGreaterThanOrEqual(before.sent + 1_000_000);
  expect(await metric('perch_host_up')).toBe(1);
  expect(await metric('perch_database_up')).toBe(1);
});
