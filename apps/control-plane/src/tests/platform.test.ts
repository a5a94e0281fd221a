import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type ApiKeyList,
  type ErrorBody,
  Health,
  HostList,
  type NewApiKey,
  TemplateList,
} from '@perch/protocol';
import { sql } from 'kysely';
import { pino } from 'pino';
import { Check } from 'typebox/value';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { firstKeyFile } from '../config/index.ts';
import { connect } from '../database/index.ts';
import { eventually, TestPlane } from '../testing/index.ts';

const silent = pino({ level: 'silent' });
let plane: TestPlane;
beforeAll(async () => {
  plane = await TestPlane.start();
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());

const json = async (answer: Response) => (await answer.json()) as Record<string, never>;

test('/health is 200 only when a sandbox could be created', async () => {
  const well = await fetch(`${plane.url}/health`);
  expect(well.status).toBe(200);
  expect(Check(Health, await well.json())).toBe(true);
  plane.host.ready = false;
  plane.host.problems = ['no base image: run npm run demo'];
  const ill = await eventually(async () => {
    const answer = await fetch(`${plane.url}/health`);
    return answer.status === 503 && answer;
  });
  expect(await ill.json()).toMatchObject({
    status: 'unavailable',
    problems: ['no base image: run npm run demo'],
  });
  plane.host.ready = true;
  await eventually(async () => (await fetch(`${plane.url}/health`)).status === 200);
  plane.host.lacks = ['memory'];
  const full = await eventually(async () => {
    const answer = await fetch(`${plane.url}/health`);
    return answer.status === 503 && answer;
  });
  expect(await full.json()).toMatchObject({
    status: 'full',
    problems: ['the host has too little memory for another sandbox'],
  });
  plane.host.lacks = [];
  await eventually(async () => (await fetch(`${plane.url}/health`)).status === 200);
});

test.each(['/v1/sandboxes', '/v1/templates', '/v1/hosts', '/v1/api-keys', '/metrics'])(
  '%s needs a key',
  async (path) => {
    for (const key of [undefined, 'x', `perch_${'0'.repeat(40)}`]) {
      const answer = await fetch(`${plane.url}${path}`, key ? { headers: { 'x-api-key': key } } : {});
      expect(answer.status).toBe(401);
      expect(await json(answer)).toMatchObject({ error: { code: 'unauthorized' } });
    }
    expect((await plane.fetch(path)).status).toBe(200);
  },
);

test.each(['/health', '/openapi.json', '/docs', '/test'])('%s needs no key', async (path) => {
  expect((await fetch(`${plane.url}${path}`)).status).toBe(200);
});

test('templates and hosts are listed', async () => {
  const templates = await json(await plane.fetch('/v1/templates'));
  expect(Check(TemplateList, templates)).toBe(true);
  expect(templates).toMatchObject({ items: [{ name: 'base', disk_mb: 1024 }] });
  const hosts = await json(await plane.fetch('/v1/hosts'));
  expect(Check(HostList, hosts)).toBe(true);
  expect(hosts).toMatchObject({
    items: [{ id: 'local', status: 'ready', vmm: 'qemu 10.0 (tcg)', disk: 'qcow2' }],
  });
});

test('a key is made, shown once, used and deleted, and the last one stays', async () => {
  const made = await plane.fetch('/v1/api-keys', { json: { name: 'ci' } });
  expect(made.status).toBe(201);
  const { id, key, prefix } = (await made.json()) as NewApiKey;
  expect(key).toMatch(/^perch_[0-9a-f]{40}$/);
  expect(key.startsWith(prefix)).toBe(true);
  const headers = { 'x-api-key': key };
  expect((await plane.fetch('/v1/hosts', { headers })).status).toBe(200);
  const list = (await (await plane.fetch('/v1/api-keys')).json()) as ApiKeyList;
  expect(list.items.map(({ name }) => name)).toEqual(['PERCH_API_KEY', 'ci']);
  expect(JSON.stringify(list)).not.toContain(key);
  expect(list.items[1]?.last_used_at).not.toBeNull();
  expect((await plane.fetch(`/v1/api-keys/${id}`, { method: 'DELETE' })).status).toBe(204);
  expect((await plane.fetch('/v1/hosts', { headers })).status).toBe(401);
  expect((await plane.fetch(`/v1/api-keys/${id}`, { method: 'DELETE' })).status).toBe(404);
  const last = await plane.fetch(`/v1/api-keys/${list.items[0]?.id}`, { method: 'DELETE' });
  expect(last.status).toBe(409);
  expect(await json(last)).toMatchObject({ error: { code: 'last_api_key' } });
  expect(plane.logLines.join('')).not.toContain(key);
});

test('/ leads a browser on, and tells programs where the description is', async () => {
  const page = await fetch(plane.url, { headers: { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' } });
  const html = await page.text();
  expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
  const hrefs = [...html.matchAll(/href="([^"]*)"/g)].map(([, href]) => href);
  expect(hrefs).toEqual(expect.arrayContaining(['/docs', '/test']));
  for (const href of hrefs) expect((await fetch(`${plane.url}${href}`)).status).toBe(200);
  const answer = await fetch(plane.url);
  expect(await answer.json()).toMatchObject({ name: 'perch', docs: '/docs', openapi: '/openapi.json' });
});

test.each([
  '/',
  '/docs',
  '/test',
  '/openapi.json',
  '/health',
  '/v1/sandboxes',
  '/v1/sandboxes/none',
  '/v1/templates',
  '/v1/nothing',
])('HEAD %s answers as GET does, without the body', async (path) => {
  for (const accept of ['text/html', 'application/json']) {
    const ask = (method: string) => plane.fetch(path, { method, headers: { accept } });
    const [head, get] = await Promise.all(['HEAD', 'GET'].map(ask));
    const told = (answer: Response | undefined) => [
      answer?.status,
      ...['content-type', 'content-security-policy', 'vary'].map((name) => answer?.headers.get(name)),
    ];
    expect(told(head)).toEqual(told(get));
    expect(await head?.text()).toBe('');
    expect(head?.status === 404 || head?.headers.get('content-length')).toBe(
      get?.status === 404 || String(Buffer.byteLength((await get?.text()) ?? '')),
    );
  }
});

test('metrics tell requests by route, sandboxes by status, and what answers', async () => {
  const { id } = await plane.create();
  await plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'true' } });
  const text = await (await plane.fetch('/metrics')).text();
  expect(text).toMatch(
    /perch_http_request_duration_seconds_count\{method="POST",route="\/v1\/sandboxes\/:id\/exec",status="200"\} 1/,
  );
  expect(text).toMatch(/perch_sandboxes\{status="running"\} 1/);
  expect(text).toMatch(/perch_execs_total\{kind="whole",outcome="exit"\} 1/);
  expect(text).toMatch(/perch_host_up 1/);
  expect(text).toMatch(/perch_database_up 1/);
  expect(text).toMatch(/nodejs_eventloop_lag_p99_seconds/);
});

test('the OpenAPI document names its schemas, and every route says what it does', async () => {
  const document = await json(await fetch(`${plane.url}/openapi.json`));
  expect(document.openapi).toBe('3.1.0');
  const { paths, components } = document as unknown as {
    paths: Record<
      string,
      Record<string, { summary?: string; responses: object; parameters?: { name: string }[] }>
    >;
    components: { schemas: object };
  };
  expect(Object.keys(components.schemas)).toEqual(
    expect.arrayContaining([
      'CreateSandbox',
      'Sandbox',
      'ExecRequest',
      'ExecResult',
      'Error',
      'SandboxStatus',
    ]),
  );
  expect(Object.keys(paths).length).toBeGreaterThanOrEqual(20);
  for (const [path, item] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(item)) {
      expect(operation.summary, `${method} ${path}`).toBeTruthy();
      expect(Object.keys(operation.responses).length, `${method} ${path}`).toBeGreaterThan(0);
    }
  }
  const text = JSON.stringify(document);
  for (const [, name] of text.matchAll(/#\/components\/schemas\/(\w+)/g)) {
    expect(components.schemas).toHaveProperty(name ?? '');
  }
  expect(text).not.toContain('$id');
  expect(text).not.toContain('def-0');
  expect(paths['/v1/sandboxes']?.get?.parameters?.map(({ name }) => name)).toContain('metadata.KEY');
});

test('the page of the API runs no script and loads nothing from elsewhere', async () => {
  const answer = await fetch(`${plane.url}/docs`);
  expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
  expect(answer.headers.get('content-security-policy')).toMatch(/^default-src 'none'; style-src 'sha256-/);
  const html = await answer.text();
  expect(html).toContain('/v1/sandboxes/{id}/exec/stream');
  expect(html).not.toMatch(/<script|<link|<img|@import|url\(/);
});

test('the test page runs its own script and style alone, and makes no markup of strings', async () => {
  const answer = await fetch(`${plane.url}/test`);
  expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
  expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
  const html = await answer.text();
  const digest = (element: string) => {
    const [, content = ''] = new RegExp(`<${element}>(.*?)</${element}>`, 's').exec(html) ?? [];
    return `'sha256-${hash('sha256', content, 'base64')}'`;
  };
  expect(answer.headers.get('content-security-policy')?.split('; ')).toEqual([
    "default-src 'none'",
    `script-src ${digest('script')}`,
    `style-src ${digest('style')}`,
    "connect-src 'self'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ]);
  expect(html).not.toMatch(/<link|<img|<iframe|@import|url\(|\son\w+=|\sstyle=|https?:/);
});

test('a request id that could harm a log is replaced', async () => {
  for (const given of ['a b', 'x'.repeat(100), '{"a":1}']) {
    const answer = await plane.fetch('/v1/hosts', { headers: { 'x-request-id': given } });
    expect(answer.headers.get('x-request-id')).toMatch(/^[0-9a-f]{20}$/);
  }
});

test('too many requests of one key are 429 with Retry-After, and tries without one sooner', async () => {
  await using small = await TestPlane.start({ PERCH_RATE_LIMIT: '20/60' });
  const statuses: number[] = [];
  for (let i = 0; i < 25; i++) statuses.push((await small.fetch('/v1/hosts')).status);
  expect(statuses).toEqual([...Array(20).fill(200), ...Array(5).fill(429)]);
  const limited = await small.fetch('/v1/hosts');
  expect(Number(limited.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(((await limited.json()) as ErrorBody).error.code).toBe('rate_limited');
  const refused: number[] = [];
  for (let i = 0; i < 65; i++) refused.push((await fetch(`${small.url}/v1/hosts`)).status);
  expect(refused.filter((status) => status === 429).length).toBeGreaterThan(0);
  expect((await fetch(`${small.url}/health`)).status).toBe(200);
}, 60_000);

test('without a key of its own perchd makes one at the first start, for the launcher to take', async () => {
  await using fresh = await TestPlane.start({ PERCH_API_KEY: '' });
  const file = firstKeyFile(fresh.config.controlDir);
  const key = (await readFile(file, 'utf8')).trim();
  const hosts = () => fetch(`${fresh.url}/v1/hosts`, { headers: { 'x-api-key': key } });
  expect((await hosts()).status).toBe(200);
  expect(fresh.logLines.join('')).not.toContain(key);
  await fresh.down();
  await fresh.up();
  expect((await hosts()).status).toBe(200);
  expect((await readFile(file, 'utf8')).trim()).toBe(key);
}, 60_000);

test('DATABASE_URL names another server, and perchd then starts none', async () => {
  const host = `host=${encodeURIComponent(join(plane.config.controlDir, 'pg'))}`;
  const owner = connect({ connectionString: `postgresql://perch@localhost/postgres?${host}` }, silent);
  await sql`CREATE DATABASE other`.execute(owner);
  await owner.destroy();
  await using other = await TestPlane.start({ DATABASE_URL: `postgresql://perch@localhost/other?${host}` });
  expect(other.postgresPid).toBeUndefined();
  const { id } = await other.create();
  expect((await other.get(id)).status).toBe('running');
  expect((await plane.fetch(`/v1/sandboxes/${id}`)).status).toBe(404);
  const second = TestPlane.start({ DATABASE_URL: other.config.databaseUrl });
  await expect(second).rejects.toThrow('another perchd works on the database');
  expect((await other.get(id)).status).toBe('running');
}, 60_000);
