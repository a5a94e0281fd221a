/** Programs written with E2B's JavaScript SDK run here by its environment variables alone. */
import { request } from 'node:http';
import {
  CommandExitError,
  FileNotFoundError,
  FilesystemEventType,
  FileType,
  Sandbox,
  SandboxNotFoundError,
  Secret,
  TimeoutError,
  Volume,
} from 'e2b';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { asE2bKey } from '../packages/protocol/src/index.ts';
import { bootDefaultMachine } from './setup/default-machine.ts';
import { shared } from './setup/shared.ts';

const variables = { E2B_API_URL: shared.url, E2B_SANDBOX_URL: shared.url, E2B_API_KEY: asE2bKey(shared.key) };
const label = `sdk-${process.pid}`;
let box: Sandbox;

beforeAll(async () => {
  await bootDefaultMachine();
  Object.assign(process.env, variables);
  box = await Sandbox.create({ metadata: { label }, envs: { COLOUR: 'blue' }, timeoutMs: 900_000 });
});
afterAll(async () => {
  await box?.kill();
  for (const name of Object.keys(variables)) delete process.env[name];
});

test('a sandbox is made, is looked at and is listed by its labels', async () => {
  expect(await box.isRunning()).toBe(true);
  const info = await box.getInfo();
  expect(info).toMatchObject({
    ...{ sandboxId: box.sandboxId, templateId: 'base', state: 'running', metadata: { label } },
    lifecycle: { onTimeout: 'kill', autoResume: false },
  });
  expect(info.endAt.getTime() - Date.now()).toBeGreaterThan(600_000);
  const listed = await Sandbox.list({ query: { metadata: { label } } }).nextItems();
  expect(listed.map((one) => one.sandboxId)).toEqual([box.sandboxId]);
  await box.setTimeout(1_800_000);
  expect((await box.getInfo()).endAt.getTime() - Date.now()).toBeGreaterThan(1_700_000);
  const [figures] = await box.getMetrics();
  expect(figures).toMatchObject({ cpuCount: 1, memTotal: expect.any(Number) });
  expect(figures?.memUsed).toBeGreaterThan(0);
});

test('commands run with their environment, directory and user, and tell how they ended', async () => {
  const run = await box.commands.run('echo "$COLOUR $SIZE"; pwd; id -un; echo oops >&2', {
    envs: { SIZE: 'big' },
    cwd: '/tmp',
    user: 'root',
  });
  expect(run).toMatchObject({ stdout: 'blue big\n/tmp\nroot\n', stderr: 'oops\n', exitCode: 0 });
  expect((await box.commands.run('id -un; pwd')).stdout).toBe('user\n/home/user\n');
  const failed = await box.commands.run('echo no; exit 3').catch((error: unknown) => error);
  expect(failed).toBeInstanceOf(CommandExitError);
  expect(failed).toMatchObject({ exitCode: 3, stdout: 'no\n' });
  await expect(box.commands.run('sleep 60', { timeoutMs: 1_000 })).rejects.toBeInstanceOf(TimeoutError);
  await expect(box.commands.run('pwd', { cwd: '/nowhere' })).rejects.toThrow(/cwd/);
});

test('a command in the background is fed, followed, found, connected to and killed', async () => {
  const said: string[] = [];
  const cat = await box.commands.run('cat', {
    background: true,
    stdin: true,
    onStdout: (text) => void said.push(text),
  });
  await box.commands.sendStdin(cat.pid, 'hello\n');
  const again = await box.commands.connect(cat.pid);
  expect((await box.commands.list()).map((one) => one.pid)).toContain(cat.pid);
  await box.commands.closeStdin(cat.pid);
  expect((await again.wait()).exitCode).toBe(0);
  await cat.wait();
  expect(said.join('')).toBe('hello\n');

  const sleeper = await box.commands.run('sleep 600', { background: true });
  expect(await sleeper.kill()).toBe(true);
  await expect(sleeper.wait()).rejects.toBeInstanceOf(CommandExitError);
  expect(await box.commands.kill(sleeper.pid)).toBe(false);
});

test('a terminal has a size and takes what is typed', async () => {
  let screen = '';
  const decoder = new TextDecoder();
  const terminal = await box.pty.create({
    ...{ cols: 80, rows: 24, timeoutMs: 0 },
    onData: (data) => {
      screen += decoder.decode(data, { stream: true });
    },
  });
  await box.pty.resize(terminal.pid, { cols: 100, rows: 30 });
  await box.pty.sendInput(terminal.pid, new TextEncoder().encode('stty size; exit\n'));
  expect((await terminal.wait()).exitCode).toBe(0);
  expect(screen).toContain('30 100');
});

test('files are written, read, listed, moved and removed', async () => {
  const { files } = box;
  expect(await files.write('dir/a b.txt', 'text')).toMatchObject({ path: '/home/user/dir/a b.txt' });
  expect(await files.read('dir/a b.txt')).toBe('text');
  const bytes = crypto.getRandomValues(new Uint8Array(200_000).subarray(0, 65_536));
  await files.write([
    { path: '/tmp/one', data: new Blob([bytes]) },
    { path: 'two', data: '' },
  ]);
  expect(Buffer.from(await files.read('/tmp/one', { format: 'bytes' })).equals(Buffer.from(bytes))).toBe(
    true,
  );
  expect(await files.read('two')).toBe('');
  expect(await files.makeDir('dir/inner')).toBe(true);
  expect(await files.makeDir('dir/inner')).toBe(false);
  expect((await files.list('dir')).map(({ name, type }) => [name, type])).toEqual([
    ['a b.txt', FileType.FILE],
    ['inner', FileType.DIR],
  ]);
  await files.rename('dir/a b.txt', 'dir/c.txt');
  expect([await files.exists('dir/a b.txt'), await files.exists('dir/c.txt')]).toEqual([false, true]);
  expect(await files.getInfo('dir/c.txt')).toMatchObject({ size: 4, owner: 'user' });
  await files.remove('dir');
  expect(await files.exists('dir')).toBe(false);
  await expect(files.read('dir/c.txt')).rejects.toBeInstanceOf(FileNotFoundError);
});

test('a directory is watched', async () => {
  await box.files.makeDir('watched');
  const seen: string[] = [];
  const written = Promise.withResolvers<void>();
  const watch = await box.files.watchDir('watched', ({ name, type }) => {
    seen.push(`${type} ${name}`);
    if (type === FilesystemEventType.WRITE) written.resolve();
  });
  await box.files.write('watched/new', 'text');
  await written.promise;
  await watch.stop();
  expect(seen[0]).toBe('create new');
});

test('a signed URL reads and writes one file for whoever has it', async () => {
  const upload = await box.uploadUrl('shared.txt', { useSignatureExpiration: 60 });
  const body = new FormData();
  body.append('file', 'by a link');
  expect((await fetch(upload, { method: 'POST', body })).status).toBe(200);
  const download = await box.downloadUrl('shared.txt');
  expect(await (await fetch(download)).text()).toBe('by a link');
  expect((await fetch(download.replace('shared', 'other'))).status).toBe(401);
});

/** What a browser does that knows `*.localhost`. */
function get(host: string, path = '/'): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request(shared.url + path, { headers: { host }, agent: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
      });
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text })).on('error', reject);
    });
    asked.on('error', reject).end();
  });
}

/** A server that answers each connection alike; one of Python's own takes seconds to start under emulation. */
const program = `
import socket
listener = socket.create_server(('', 8080))
print('listens')
while True:
    client = listener.accept()[0]
    client.recv(65536)
    client.sendall(b'HTTP/1.0 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\na page')
    client.close()
`;

test('a server in the sandbox is reached by its host name', async () => {
  const listens = Promise.withResolvers<void>();
  const server = await box.commands.run(`python3 -uc "${program}"`, {
    background: true,
    timeoutMs: 0,
    onStdout: () => listens.resolve(),
  });
  await listens.promise;
  const host = box.getHost(8080);
  expect(host).toBe(`8080-${box.sandboxId}.localhost:${new URL(shared.url).port}`);
  expect(await get(host)).toEqual({ status: 200, text: 'a page' });
  const closed = await get(box.getHost(8081));
  expect([closed.status, JSON.parse(closed.text).message]).toEqual([
    502,
    'The sandbox is running but port is not open',
  ]);
  await server.kill();
});

test('the git helper makes, clones and changes a repository, and pushes what it changed', async () => {
  const { git } = box;
  const [origin, here] = ['/home/user/origin.git', '/home/user/here'];
  await git.init(origin, { bare: true, initialBranch: 'main' });
  await git.clone(`file://${origin}`, { path: here });
  await git.configureUser('Somebody', 'somebody@example.com');
  await box.files.write(`${here}/a`, 'text');
  expect(await git.status(here)).toMatchObject({ isClean: false, untrackedCount: 1 });
  await git.add(here);
  await git.commit(here, 'first');
  await git.push(here, { remote: 'origin', branch: 'main' });
  expect(await git.branches(origin)).toMatchObject({ branches: ['main'] });
  await expect(git.clone('file:///home/user/nowhere', { path: '/tmp/none' })).rejects.toBeInstanceOf(
    CommandExitError,
  );
});

test('a gateway of MCP is that of a template, and is not there without one', async () => {
  const metadata = { label: `${label}-mcp` };
  const mcp = { anything: {} } as never;
  await expect(Sandbox.create({ mcp, metadata })).rejects.toThrow(/mcp-gateway/);
  await expect(Sandbox.create('base', { mcp, metadata })).rejects.toThrow('Failed to start MCP gateway');
  expect(await Sandbox.list({ query: { metadata } }).nextItems()).toEqual([]);
  const gateway =
    '#!/bin/sh\nmkdir -p /etc/mcp-gateway; echo -n "$GATEWAY_ACCESS_TOKEN" > /etc/mcp-gateway/.token\n';
  await box.files.write('/usr/local/bin/mcp-gateway', gateway, { user: 'root' });
  await box.commands.run('chmod +x /usr/local/bin/mcp-gateway', { user: 'root' });
  const { snapshotId } = await box.createSnapshot({ name: `${label}-mcp` });
  const other = await Sandbox.create(snapshotId, { mcp, metadata });
  try {
    const token = await other.getMcpToken();
    expect(await (await Sandbox.connect(other.sandboxId)).getMcpToken()).toBe(token);
    expect(other.getMcpUrl()).toBe(`https://${other.getHost(50_005)}/mcp`);
  } finally {
    await other.kill();
    await Sandbox.deleteSnapshot(snapshotId);
  }
});

test.each<[string, string, () => Promise<unknown>]>([
  ['a volume', 'Volumes are not offered', () => Volume.create('kept')],
  ['a list of volumes', 'Volumes are not offered', () => Volume.list()],
  ['one volume', 'Volumes are not offered', () => Volume.getInfo('kept')],
  ['the end of a volume', 'Volumes are not offered', () => Volume.destroy('kept')],
  ['a secret', 'Secrets are not offered', () => Secret.create('KEPT', 'value')],
  ['a list of secrets', 'Secrets are not offered', () => Secret.list().nextItems()],
  ['one secret', 'Secrets are not offered', () => Secret.getInfo('KEPT')],
  ['another value of a secret', 'Secrets are not offered', () => Secret.update('KEPT', 'other')],
  ['the end of a secret', 'Secrets are not offered', () => Secret.destroy('KEPT')],
  ['a sandbox with a volume', 'volumeMounts', () => Sandbox.create({ volumeMounts: { '/mnt/a': 'kept' } })],
  [
    'a sandbox without a network',
    'allow_internet_access',
    () => Sandbox.create({ allowInternetAccess: false }),
  ],
  ['a sandbox with rules', 'network.denyOut', () => Sandbox.create({ network: { denyOut: ['1.1.1.1'] } })],
  ['other rules', 'denyOut', () => box.updateNetwork({ denyOut: ['1.1.1.1'] })],
])('%s is refused by its name', async (_, name, call) => {
  const refused = await call().catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(Error);
  expect((refused as Error).message).toContain(name);
});

test('a paused sandbox goes on where it was, for the object that has paused it, too', async () => {
  const counter = await box.commands.run('while sleep 0.2; do date +%s%N > tick; done', {
    background: true,
    timeoutMs: 0,
  });
  expect(await box.pause()).toBe(true);
  expect(await box.pause()).toBe(false);
  expect(await box.isRunning()).toBe(false);
  await expect(box.commands.run('true')).rejects.toBeInstanceOf(SandboxNotFoundError);
  expect((await box.getInfo()).state).toBe('paused');
  const same = await Sandbox.connect(box.sandboxId, { timeoutMs: 900_000 });
  expect(await same.isRunning()).toBe(true);
  expect((await box.commands.list()).map((one) => one.pid)).toContain(counter.pid);
  expect(await box.commands.kill(counter.pid)).toBe(true);
});

test('a sandbox that is paused without its memory boots from its disk', async () => {
  const own = await Sandbox.create({
    ...{ envs: { COLOUR: 'red' }, metadata: { label: `${label}-disk` }, timeoutMs: 900_000 },
    lifecycle: { onTimeout: { action: 'pause', keepMemory: false } },
  });
  try {
    const boot = async () => (await own.commands.run('cat /proc/sys/kernel/random/boot_id')).stdout;
    const first = await boot();
    await own.files.write('kept', 'here');
    expect(await own.pause({ keepMemory: false })).toBe(true);
    expect(await own.pause({ keepMemory: false })).toBe(false);
    await own.connect();
    const second = await boot();
    expect(second).not.toBe(first);
    expect(await own.files.read('kept')).toBe('here');
    expect((await own.commands.run('echo $COLOUR')).stdout).toBe('red\n');
    await own.pause();
    await own.connect({ onResume: 'reboot' });
    expect(await boot()).not.toBe(second);
  } finally {
    await own.kill();
  }
});

test('forks and sandboxes from a snapshot go on side by side, and a kill ends one of them alone', async () => {
  await box.files.write('origin', 'here');
  const snapshot = await box.createSnapshot();
  const [forks, made] = await Promise.all([
    box.fork({ count: 1, timeoutMs: 300_000 }),
    Sandbox.create(snapshot.snapshotId, { timeoutMs: 300_000 }),
  ]);
  const fork = forks[0] as Sandbox;
  try {
    const names = await Promise.all(
      [box, fork, made].map(
        async (one) => (await one.commands.run('cat origin /run/e2b/.E2B_SANDBOX_ID; hostname')).stdout,
      ),
    );
    expect(names).toEqual([box, fork, made].map(({ sandboxId }) => `here${sandboxId}${sandboxId}\n`));
    const waiting = fork.commands.run('sleep 600').catch((error: unknown) => error);
    await eventuallyRuns(fork, 'sleep');
    expect(await fork.kill()).toBe(true);
    expect(await waiting).toBeInstanceOf(TimeoutError);
    expect(await fork.kill()).toBe(false);
    expect([await fork.isRunning(), await made.isRunning()]).toEqual([false, true]);
  } finally {
    await Promise.all([fork.kill(), made.kill()]);
  }
  expect(await Sandbox.deleteSnapshot(snapshot.snapshotId)).toBe(true);
  expect(await Sandbox.deleteSnapshot(snapshot.snapshotId)).toBe(false);
});

async function eventuallyRuns(of: Sandbox, name: string): Promise<void> {
  while (!(await of.commands.list()).some(({ args }) => args.join(' ').includes(name)));
}
