import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { asE2bKey, PerchError } from '@perch/protocol';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createOutput } from './output.ts';
import { createProgram } from './program.ts';
import { serve } from './testing.ts';

const main = join(import.meta.dirname, '../bin/perch.mjs');
const key = `perch_${'5ec7e7'.repeat(7).slice(0, 40)}`;

/** Keeps what is compiled, as anybody's does, so that each run does not compile it anew. */
let home: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'perch-home-'));
});

afterAll(() => rm(home, { recursive: true }));

const perch = (url: string, ...args: string[]) => perchWith({}, url, ...args);

async function perchWith(env: Record<string, string>, url: string, ...args: string[]) {
  const child = spawn(process.execPath, [main, ...args], {
    env: {
      PATH: process.env.PATH,
      HOME: home,
      PERCH_URL: url,
      PERCH_API_KEY: key,
      PERCH_DATA_DIR: '/nonexistent/perch',
      PERCH_LISTEN: new URL(nowhere).host,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ]);
  expect(stdout + stderr).not.toContain(key);
  return { code, stdout, stderr };
}

/** Answers every request alike. */
function server(status: number, body: unknown) {
  return serve((_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
}

const nowhere = 'http://127.0.0.1:48';
const sandbox = {
  id: 'sb0123456789abcdefgh',
  status: 'failed',
  reason: 'evil \u001b]0;x\u0007',
  template: 'base',
  vcpus: 1,
  memory_mb: 512,
  metadata: { job: '42' },
  created_at: new Date().toISOString(),
  expires_at: null,
};

test('a command line that is wrong is exit code 2, and shows where help is', async () => {
  for (const args of [
    ['create', '--vcpus', 'two'],
    ['nonsense'],
    ['exec', 'sb0'],
    ['exec', 'sb0', '--'],
    ['rm'],
    ['pause'],
    ['resume'],
    ['fork'],
    ['history'],
    ['template', 'ready', 'base'],
    ['template', 'ready', 'base', '--count', 'many'],
    ['ls', '--ready', '--all'],
    ['snapshot', 'create'],
    ['snapshot', 'flatten'],
    ['snapshot', 'convert', 'x', '--to', 'zfs'],
    ['snapshot', 'rm'],
    ['snapshot', 'import'],
    ['snapshot', 'import', '/tmp', '--monitor', 'qemu'],
    ['snapshot', 'import', '/tmp', '--vcpus', 'two'],
  ]) {
    const { code, stderr } = await perch(nowhere, ...args);
    expect({ args, code }).toEqual({ args, code: 2 });
    expect(stderr).toContain('--help');
  }
});

test("e2b env prints the variables of E2B's SDKs, for the shell that is named and for programs", async () => {
  const url = 'http://127.0.0.1:7';
  const theirs = asE2bKey(key);
  const sh = await perch(url, 'e2b', 'env');
  expect(sh.stdout.split('\n')).toEqual([
    `export E2B_API_URL='${url}'`,
    `export E2B_SANDBOX_URL='${url}'`,
    `export E2B_API_KEY='${theirs}'`,
    '',
  ]);
  const fish = await perch(url, 'e2b', 'env', '--shell', 'fish');
  expect(fish.stdout).toContain(`set -gx E2B_API_KEY '${theirs}';\n`);
  const json = await perch(url, 'e2b', 'env', '--json');
  expect(JSON.parse(json.stdout)).toEqual({ E2B_API_URL: url, E2B_SANDBOX_URL: url, E2B_API_KEY: theirs });
});

test('e2b env --tls tells the domain of the certificate, or how to make one', async () => {
  const url = 'http://127.0.0.1:7';
  const none = await perch(url, 'e2b', 'env', '--tls');
  expect([none.code, none.stdout]).toEqual([1, '']);
  expect(none.stderr).toContain('perch tls init');
  const dataDir = join(home, 'data');
  const dir = join(dataDir, 'tls');
  await mkdir(dir, { recursive: true });
  const certificate = join(dir, 'server.pem');
  const names = 'subjectAltName=DNS:*.sbx.test,DNS:sbx.test';
  await promisify(execFile)('openssl', [
    ...[
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-subj',
      '/CN=sbx.test',
    ],
    ...['-addext', names, '-keyout', '/dev/null', '-out', certificate],
  ]);
  const env = { PERCH_DATA_DIR: dataDir };
  // Of an authority that is not the machine's own its programs know where they know it from.
  const foreign = await perchWith(env, url, 'e2b', 'env', '--tls', '--json');
  expect(JSON.parse(foreign.stdout)).toEqual({ E2B_DOMAIN: 'sbx.test:7', E2B_API_KEY: asE2bKey(key) });
  await copyFile(certificate, join(dir, 'ca.pem'));
  const sh = await perchWith(env, url, 'e2b', 'env', '--tls');
  expect(sh.stdout.split('\n')).toEqual([
    ...['unset E2B_API_URL', 'unset E2B_SANDBOX_URL'],
    `export E2B_DOMAIN='sbx.test:7'`,
    `export NODE_EXTRA_CA_CERTS='${dir}/ca.pem'`,
    `export SSL_CERT_FILE='${dir}/bundle.pem'`,
    `export E2B_API_KEY='${asE2bKey(key)}'`,
    '',
  ]);
  const fish = await perchWith(env, url, 'e2b', 'env', '--tls', '--shell', 'fish');
  expect(fish.stdout).toContain('set -e E2B_API_URL;\n');
});

test('with --json an error is one line of JSON', async () => {
  const wrong = await perch(nowhere, '--json', 'nonsense');
  expect(JSON.parse(wrong.stderr)).toMatchObject({
    error: { code: 'usage', message: expect.stringContaining('nonsense') },
  });
  const { code, stderr } = await perch(nowhere, 'ls', '--json');
  expect(code).toBe(1);
  expect(JSON.parse(stderr)).toMatchObject({
    error: { code: 'connection_error', remedy: 'Start it with `perch up`.' },
  });
});

test("the server's error comes with its remedy, and the place of the logs when it is its own fault", async () => {
  await using missing = await server(
    404,
    new PerchError('sandbox_not_found', 'No sandbox x.', { id: 'x' }).toBody(),
  );
  const unknown = await perch(missing.url, 'logs', 'x');
  expect(unknown).toMatchObject({ code: 1, stdout: '' });
  expect(unknown.stderr).toContain('No sandbox x.');
  expect(unknown.stderr).not.toContain('/log');
  await using faulty = await server(500, new PerchError('internal', 'It broke.', {}).toBody());
  expect((await perch(faulty.url, 'logs', 'x')).stderr).toContain('/nonexistent/perch/log');
});

test('ls shows sandboxes to people without obeying them, and to programs one a line', async () => {
  await using listing = await server(200, { items: [sandbox, sandbox], next_cursor: null });
  const people = await perch(listing.url, 'ls');
  expect(people.stdout).toContain('failed (evil \\u001b]0;x\\u0007)');
  expect(people.stdout).toContain('job=42');
  const lines = (await perch(listing.url, 'ls', '--json')).stdout.trim().split('\n');
  expect(lines.map((line) => JSON.parse(line))).toEqual([sandbox, sandbox]);
});

test('create prints the id alone, for scripts', async () => {
  await using created = await server(201, { ...sandbox, status: 'running' });
  expect(await perch(created.url, 'create')).toEqual({ code: 0, stdout: `${sandbox.id}\n`, stderr: '' });
});

test('create and run ask for a sandbox of the same shape by the same options', async () => {
  const asked: unknown[] = [];
  await using api = await serve(async (request, response) => {
    asked.push(JSON.parse(await text(request)));
    const refusal = new PerchError('internal', 'It broke.', {});
    response.writeHead(500, { 'content-type': 'application/json' }).end(JSON.stringify(refusal.toBody()));
  });
  const shape = ['-t', 'mine', '-c', '2', '-m', '256', '-d', '1024', '-e', 'A=b=c'];
  await perch(api.url, 'create', ...shape, '-l', 'job=42', '--timeout', '9', '--no-pause-memory');
  await perch(api.url, 'run', ...shape, '--timeout', '9', '--', 'true');
  const wished = { template: 'mine', vcpus: 2, memory_mb: 256, disk_mb: 1024 };
  expect(asked).toEqual([
    { ...wished, env: { A: 'b=c' }, metadata: { job: '42' }, timeout_sec: 9, pause_memory: false },
    wished,
  ]);
});

test('pause and resume print the id alone, for scripts, and everything as JSON', async () => {
  const moved = { ...sandbox, status: 'paused', timings_ms: { freeze: 1, total: 20 } };
  await using answering = await server(200, moved);
  for (const command of ['pause', 'resume']) {
    const { id } = sandbox;
    expect(await perch(answering.url, command, id, id)).toEqual({
      code: 0,
      stdout: `${id}\n${id}\n`,
      stderr: '',
    });
    expect(JSON.parse((await perch(answering.url, command, id, '--json')).stdout)).toEqual(moved);
  }
  const refusal = new PerchError('sandbox_not_running', 'Sandbox x is paused, not running.', {
    id: 'x',
    status: 'paused',
  });
  await using refusing = await server(409, refusal.toBody());
  expect(await perch(refusing.url, 'pause', 'x')).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('is paused, not running'),
  });
});

test('exec that Perch could not begin is 125', async () => {
  expect(await perch(nowhere, 'exec', 'sb0', '--', 'true')).toMatchObject({ code: 125 });
});

test('cp needs one end in a sandbox, and says what to do with a directory', async () => {
  expect(await perch(nowhere, 'cp', 'a', 'b')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('ID:PATH'),
  });
  const directory = await perch(nowhere, 'cp', '/etc', `${sandbox.id}:`);
  expect(directory).toMatchObject({ code: 1, stderr: expect.stringContaining('perch cp -r') });
});

test('doctor finds what is missing without any daemon', async () => {
  const { code, stdout, stderr } = await perch(nowhere, 'doctor', '--json');
  expect([code, stderr]).toEqual([1, '']);
  const findings = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { name: string; status: string; remedy?: string });
  expect(findings.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['root', 'node', 'QEMU', 'disk space', 'perchd', 'perch-host']),
  );
  for (const { status, remedy } of findings) expect(remedy === undefined).toBe(status === 'ok');
});

test('leaks of a Perch that never ran are none', async () => {
  expect(await perch(nowhere, 'leaks')).toMatchObject({ code: 0, stdout: 'Nothing is left.\n' });
});

test.runIf(process.getuid?.() === 0)('import needs a host agent on this machine', async () => {
  expect(await perch(nowhere, 'snapshot', 'import', '/tmp')).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('sudo perch up'),
  });
});

test('ready guests are listed, and their number is set, for people and for programs', async () => {
  const guests = {
    ...{ template: 'mine', vcpus: 1, memory_mb: 256, disk_mb: 1024 },
    ...{ ready: 3, wanted: 4, pinned: 4, hits: 7, misses: 1 },
  };
  const asked: unknown[] = [];
  await using api = await serve(async (request, response) => {
    if (request.method === 'POST') asked.push([request.url, JSON.parse(await text(request))]);
    const body = request.method === 'POST' ? guests : { items: [guests, { ...guests, pinned: null }] };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  const pinned = await perch(api.url, 'template', 'ready', 'mine', '--count', '4', '--memory', '256');
  expect(pinned.stdout.split('\n')[1]).toMatch(/^mine +1 +256 MiB +1024 MiB +3 +4 +4 +7 +1$/);
  await perch(api.url, 'template', 'ready', 'mine', '--count', 'auto');
  expect(asked).toEqual([
    ['/v1/templates/mine/ready', { count: 4, memory_mb: 256 }],
    ['/v1/templates/mine/ready', { count: null }],
  ]);
  const listed = await perch(api.url, 'ls', '--ready');
  expect(listed.stdout.split('\n')[2]).toMatch(/ +3 +4 +- +7 +1$/);
  const { stdout } = await perch(api.url, 'ls', '--ready', '--json');
  expect(JSON.parse(stdout.split('\n')[0] ?? '')).toEqual(guests);
});

test('every command explains itself', async () => {
  const { commands } = await createProgram(createOutput(false));
  const expected = [
    'up',
    'down',
    'create',
    'ls',
    'exec',
    'cp',
    'pause',
    'resume',
    'fork',
    'snapshot',
    'template',
    'history',
    'rm',
    'logs',
    'doctor',
    'leaks',
    'fsck',
    'completion',
  ];
  expect(commands.map((command) => command.name())).toEqual(expect.arrayContaining(expected));
  const ofSnapshots = commands.find((command) => command.name() === 'snapshot')?.commands ?? [];
  expect(ofSnapshots.map((command) => command.name())).toEqual([
    'create',
    'ls',
    'flatten',
    'convert',
    'import',
    'rm',
  ]);
  const ofTemplates = commands.find((command) => command.name() === 'template')?.commands ?? [];
  for (const command of [...commands, ...ofSnapshots, ...ofTemplates]) {
    const group = command.parent?.name() ?? 'perch';
    const parent = group === 'perch' ? group : `perch ${group}`;
    expect(command.helpInformation()).toContain(`Usage: ${parent} ${command.name()}`);
    expect(command.description()).not.toBe('');
    for (const { description } of command.options) expect(description).not.toBe('');
  }
});
