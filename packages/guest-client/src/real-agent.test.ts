import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createGuestClient, type GuestClient, type GuestProcess } from './index.ts';
import { collect } from './testing/collect.ts';

const repository = join(import.meta.dirname, '../../..');
const binary =
  process.env.PERCH_GUEST_BIN ?? join(repository, 'target/x86_64-unknown-linux-gnu/release/perch-guest');
if (!existsSync(binary)) console.warn(`skipped: no guest agent at ${binary}; \`npm run setup\` builds it`);

const user = userInfo().username;
const accessToken = 'ab'.repeat(32);

async function codeOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => 'nothing',
    (reason: unknown) => reason,
  );
  return (error as { code?: string }).code ?? String(error);
}

async function finish(running: GuestProcess) {
  const output = { stdout: '', stderr: '', last: '' };
  for await (const event of running.events) {
    if (event.type === 'stdout' || event.type === 'stderr') output[event.type] += event.data.toString();
    else output.last = event.type === 'end' ? `exit ${event.exitCode}` : event.type;
  }
  return output;
}

describe.skipIf(!existsSync(binary))('the real agent', () => {
  let directory: string;
  let client: GuestClient;
  let stop = () => {};

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'perch-guest-client-'));
    const agent = spawn(binary, ['serve', '--listen', '127.0.0.1:0', '--default-user', user], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    stop = () => agent.kill('SIGKILL');
    const [line] = (await once(createInterface({ input: agent.stdout }), 'line')) as [string];
    const port = Number(line.split(':').at(-1));
    const init = await fetch(`http://127.0.0.1:${port}/init`, {
      method: 'POST',
      body: JSON.stringify({
        generation: 1,
        timestamp: new Date().toISOString(),
        entropy: Buffer.alloc(64).toString('base64'),
        sandboxId: 'sbtest',
        templateId: 'base',
        hostname: 'sbtest',
        machineId: 'a'.repeat(32),
        accessToken,
      }),
    });
    expect(init.status, await init.text()).toBe(200);
    client = createGuestClient({ address: '127.0.0.1', port, accessToken, sandboxId: 'sbtest' });
  });

  afterAll(async () => {
    await client?.close();
    stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const shell = (script: string, more: { timeoutMs?: number; stdin?: boolean; cwd?: string } = {}) =>
    client.start({ cmd: 'sh', args: ['-c', script], stdin: false, leash: 'end', ...more });

  test('runs a command with its output, environment and exit code', async () => {
    const running = await client.start({
      cmd: 'sh',
      args: ['-c', 'echo "$GREETING"; echo err >&2; exit 3'],
      env: { GREETING: 'hello' },
      stdin: false,
      leash: 'end',
    });
    expect(running.pid).toBeGreaterThan(1);
    expect(await finish(running)).toEqual({ stdout: 'hello\n', stderr: 'err\n', last: 'exit 3' });
  });

  test('no such command is 127, and one that cannot be executed is 126', async () => {
    const missing = await client.start({ cmd: 'no-such-thing', stdin: false, leash: 'end' });
    expect(await finish(missing)).toMatchObject({
      last: 'exit 127',
      stderr: 'command not found: no-such-thing\n',
    });
    const plain = await client.start({ cmd: '/etc/passwd', stdin: false, leash: 'end' });
    expect(await finish(plain)).toMatchObject({ last: 'exit 126' });
  });

  test('no such directory and no such user are the errors of these names', async () => {
    expect(await codeOf(shell('true', { cwd: '/no/such' }))).toBe('invalid_cwd');
    const options = { cmd: 'true', user: 'nobody-of-this-name', stdin: false, leash: 'end' } as const;
    expect(await codeOf(client.start(options))).toBe('invalid_user');
    expect(await codeOf(client.stat('/tmp', { user: 'nobody-of-this-name' }))).toBe('invalid_user');
    expect(await codeOf(client.readFile('/tmp', { user: 'nobody-of-this-name' }))).toBe('invalid_user');
  });

  test('a signal ends a command with 128 and its number', async () => {
    const running = await shell('sleep 60');
    expect(await client.signal(running.pid, 'SIGTERM')).toBe(true);
    expect(await finish(running)).toMatchObject({ last: 'exit 143' });
    expect(await client.signal(running.pid, 'SIGTERM')).toBe(false);
  });

  test('a deadline ends a command, and is told as such', async () => {
    const running = await shell('echo first; sleep 60', { timeoutMs: 2_000 });
    expect(await finish(running)).toEqual({ stdout: 'first\n', stderr: '', last: 'timeout' });
  });

  test('input reaches a command, and its end does', async () => {
    const running = await client.start({ cmd: 'cat', stdin: true, leash: 'end' });
    const finished = finish(running);
    const input = 'x'.repeat(3_000_000);
    expect(await client.sendStdin(running.pid, Buffer.from(input))).toBe(true);
    expect(await client.closeStdin(running.pid)).toBe(true);
    const { stdout, last } = await finished;
    expect(stdout === input && last).toBe('exit 0');
    expect(await client.sendStdin(running.pid, Buffer.from('late'))).toBe(false);
  });

  const runningPids = async () => (await client.commands()).filter(({ end }) => !end).map(({ pid }) => pid);

  test('the list has what runs', async () => {
    const running = await shell('sleep 60');
    expect(await runningPids()).toContain(running.pid);
    await running.kill();
    expect(await finish(running)).toMatchObject({ last: 'exit 137' });
  });

  test('leaving the events kills the command', async () => {
    const running = await shell('echo here; sleep 60');
    for await (const event of running.events) {
      expect(event.type).toBe('stdout');
      break;
    }
    await expect.poll(runningPids).not.toContain(running.pid);
  });

  test('50 MB of output come whole', async () => {
    const running = await shell('head -c 50000000 /dev/zero');
    let length = 0;
    for await (const event of running.events) if (event.type === 'stdout') length += event.data.length;
    expect(length).toBe(50_000_000);
  });

  test('a file goes there and back', async () => {
    const path = join(directory, 'sub dir/ü&?#.bin');
    const block = Buffer.alloc(65_536, 'abc');
    async function* source() {
      for (let i = 0; i < 160; i++) yield block;
    }
    await client.writeFile(path, source(), { size: 160 * block.length });
    const { stream, size } = await client.readFile(path);
    expect(size).toBe(160 * block.length);
    const content = Buffer.concat(await collect(stream as AsyncIterable<Buffer>));
    expect(content.equals(Buffer.concat(Array(160).fill(block)))).toBe(true);
  });

  test('an empty file is empty, and a file of /proc is read to its end', async () => {
    const path = join(directory, 'empty');
    await client.writeFile(path, (async function* () {})());
    expect(await collect((await client.readFile(path)).stream)).toEqual([]);
    const { stream } = await client.readFile('/proc/self/status');
    expect(Buffer.concat(await collect(stream as AsyncIterable<Buffer>)).length).toBeGreaterThan(100);
  });

  test('an upload that breaks off leaves what was there', async () => {
    const path = join(directory, 'kept');
    const text = async function* (content: string) {
      yield Buffer.from(content);
    };
    await client.writeFile(path, text('old'));
    const broken = async function* () {
      yield Buffer.from('new');
      await sleep(50);
      throw new Error('gone');
    };
    expect(await codeOf(client.writeFile(path, broken()))).toBe('transfer_interrupted');
    expect(readFileSync(path, 'utf8')).toBe('old');
    await expect.poll(() => readdirSync(directory).filter((name) => name.includes('kept'))).toEqual(['kept']);
  });

  test('what is not a file is refused by its kind', async () => {
    expect(await codeOf(client.readFile('/no/such'))).toBe('file_not_found');
    expect(await codeOf(client.readFile('/tmp'))).toBe('not_a_file');
    expect(await codeOf(client.readFile('/dev/null'))).toBe('not_a_file');
    expect(await codeOf(client.writeFile('/tmp', (async function* () {})()))).toBe('not_a_file');
    expect(await codeOf(client.readFile('/etc/passwd/x'))).toMatch(/not_a_directory|file_not_found/);
    expect(await codeOf(client.readFile('~nobody/x'))).toBe('validation_failed');
  });

  test('directories are made, listed, moved and removed', async () => {
    const path = join(directory, 'a/b');
    expect(await client.makeDir(path)).toMatchObject({ name: 'b', path, type: 'directory' });
    expect(await codeOf(client.makeDir(path))).toBe('file_exists');
    await client.move(path, join(directory, 'c/d'));
    const names = (await client.listPage(join(directory, 'c'), { limit: 10 })).entries.map(
      (entry) => entry.path,
    );
    expect(names).toContain(join(directory, 'c/d'));
    expect(names).not.toContain(path);
    await client.remove(join(directory, 'c'));
    expect(await codeOf(client.stat(join(directory, 'c')))).toBe('file_not_found');
    expect(await codeOf(client.listPage('/etc/passwd', { limit: 1 }))).toBe('not_a_directory');
    expect(await codeOf(client.listPage('/no/such', { limit: 1 }))).toBe('file_not_found');
    expect(await codeOf(client.move('/no/such', path))).toBe('file_not_found');
  });
});
