/** A command over a WebSocket, message by message. */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { StreamClient } from '../apps/control-plane/src/testing/stream-client.ts';
import type { ExecServerMessage, ExecTicket } from '../packages/protocol/src/index.ts';
import { eventually } from './setup/eventually.ts';
import { residentMb } from './setup/memory.ts';
import { rest } from './setup/rest.ts';
import { newSandbox, sh, sharedPerch } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

const perch = sharedPerch();
const { url, key, pids } = shared;
const withKey = { 'x-api-key': key };

let id: string;
beforeAll(async () => {
  const sandbox = await newSandbox(perch, { memory_mb: 512 });
  ({ id } = sandbox);
  return () => sandbox[Symbol.asyncDispose]();
});

const pathOf = (sandbox = id) => `/v1/sandboxes/${sandbox}/exec/stream`;
const open = (headers: Record<string, string> = withKey, path = pathOf()) =>
  StreamClient.open(`${url}${path}`, headers);

const start = (script: string, more: object = {}) => ({
  type: 'start',
  cmd: 'bash',
  args: ['-c', script],
  ...more,
});

/** All messages of a command that needs no help. */
async function run(message: object): Promise<ExecServerMessage[]> {
  await using client = await open();
  client.send(message);
  return await client.rest();
}

type Output = Extract<ExecServerMessage, { type: 'stdout' | 'stderr' }>;
const isOutput = (message: ExecServerMessage): message is Output =>
  message.type === 'stdout' || message.type === 'stderr';
const textOf = (messages: ExecServerMessage[], stream = 'stdout') =>
  messages.map((one) => (one.type === stream && 'data' in one ? one.data : '')).join('');

const newMark = () => `mark-${randomUUID()}`;
const processesOf = async (mark: string) =>
  Number(await sh(perch, id, `pgrep -cf '${mark.replace(/^m/, '[m]')}' || true`));

test('a command is told in order: its start, its output as it comes, its exit', async () => {
  await using client = await open();
  client.send(start('read; echo one; read; echo two >&2; read; exit 4', { stdin: true }));
  expect(await client.next()).toEqual({ type: 'start', pid: expect.any(Number) });
  // Each line is asked for only when the one before has come: none waits for the end of the command.
  client.send({ type: 'stdin', data: '\n' });
  expect(await client.next()).toEqual({ type: 'stdout', data: 'one\n' });
  client.send({ type: 'stdin', data: '\n' });
  expect(await client.next()).toEqual({ type: 'stderr', data: 'two\n' });
  client.send({ type: 'stdin', data: '\n' });
  expect(await client.next()).toEqual({ type: 'exit', exit_code: 4 });
  expect(await client.closed).toEqual({ code: 1000 });
});

test('environment, directory and user are those that start names', async () => {
  const messages = await run(start('echo $A; pwd; id -un', { env: { A: 'ü' }, cwd: '/tmp', user: 'root' }));
  expect(textOf(messages)).toBe('ü\n/tmp\nroot\n');
  const missing = await run({ type: 'start', cmd: 'no-such-command' });
  expect(missing.at(-1)).toEqual({ type: 'exit', exit_code: 127 });
});

test('no character is split, wherever its bytes are', async () => {
  const script = `
import sys, time
for byte in "aé€🦜\\n".encode() * 3:
    sys.stdout.buffer.write(bytes([byte])); sys.stdout.buffer.flush(); time.sleep(0.02)`;
  const slow = await run({ type: 'start', cmd: 'python3', args: ['-c', script] });
  const pieces = slow.filter(isOutput);
  expect(pieces.length).toBeGreaterThan(3);
  for (const piece of pieces)
    expect(piece).toEqual({ type: 'stdout', data: expect.not.stringContaining('\ufffd') });
  expect(textOf(slow)).toBe('aé€🦜\n'.repeat(3));
  // Three bytes a character, so that no buffer of a power of two ends at the end of one.
  const much = await run({ type: 'start', cmd: 'python3', args: ['-c', 'print("€" * 3_000_000, end="")'] });
  expect(much.filter(isOutput).every((one) => 'data' in one)).toBe(true);
  expect(textOf(much) === '€'.repeat(3_000_000)).toBe(true);
});

test('bytes that are no UTF-8 come as they are', async () => {
  const script = 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 1000)';
  const messages = await run({ type: 'start', cmd: 'python3', args: ['-c', script] });
  const bytes = messages
    .filter(isOutput)
    .map((one) => ('data' in one ? Buffer.from(one.data) : Buffer.from(one.data_base64, 'base64')));
  const expected = Buffer.alloc(256_000, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));
  expect(Buffer.concat(bytes).equals(expected)).toBe(true);
  const cut = await run(start("printf 'ok\\342\\202'"));
  expect(textOf(cut)).toBe('ok');
  expect(cut).toContainEqual({ type: 'stdout', data_base64: '4oI=' });
});

test('stdin is passed in order, as text and as bytes, until it is closed', async () => {
  await using client = await open();
  client.send({ type: 'start', cmd: 'cat', stdin: true });
  client.send({ type: 'stdin', data: 'ünï ' });
  client.send({ type: 'stdin', data_base64: Buffer.from([0xf0, 0x9f]).toString('base64') });
  client.send({ type: 'stdin', data_base64: Buffer.from([0xa6, 0x9c]).toString('base64') });
  client.send({ type: 'stdin_close' });
  const messages = await client.rest();
  expect(textOf(messages)).toBe('ünï 🦜');
  expect(messages.at(-1)).toEqual({ type: 'exit', exit_code: 0 });
});

test('a signal reaches the command, and stop kills all of it', async () => {
  await using signalled = await open();
  signalled.send(start('trap "exit 7" USR1; echo ready; while :; do sleep 0.1; done'));
  await signalled.until((one) => one.type === 'stdout');
  signalled.send({ type: 'signal', signal: 'SIGUSR1' });
  expect((await signalled.rest()).at(-1)).toEqual({ type: 'exit', exit_code: 7 });

  const mark = newMark();
  await using stopped = await open();
  stopped.send(start(`trap '' TERM INT; bash -c 'sleep 3600; : ${mark}' & echo ready; wait; : ${mark}`));
  await stopped.until((one) => one.type === 'stdout');
  stopped.send({ type: 'stop' });
  expect((await stopped.rest()).at(-1)).toEqual({ type: 'exit', exit_code: 137 });
  await eventually(async () => (await processesOf(mark)) === 0);
});

test('a time-out is an error after the output so far', async () => {
  const messages = await run(start('echo begun; sleep 3600', { timeout_sec: 3 }));
  expect(textOf(messages)).toBe('begun\n');
  expect(messages.at(-1)).toMatchObject({ type: 'error', error: { code: 'exec_timeout' } });
});

test('a client that goes away ends its command, and a detached one lives on', async () => {
  const [attached, detached] = [newMark(), newMark()];
  for (const [mark, detach] of [
    [attached, false],
    [detached, true],
  ] as const) {
    await using client = await open();
    client.send(start(`echo ready; sleep 3600; : ${mark}`, { detach }));
    await client.until((one) => one.type === 'stdout');
  }
  await eventually(async () => (await processesOf(attached)) === 0);
  expect(await processesOf(detached)).toBe(1);
  await sh(perch, id, `pkill -f '${detached.replace(/^m/, '[m]')}'`);
});

test('a ticket opens one connection, of its own sandbox, without a key', async () => {
  const ticketOf = async () => {
    const answer = await rest(`/v1/sandboxes/${id}/exec/ticket`, { method: 'POST' });
    expect(answer.status).toBe(200);
    return (await answer.json()) as ExecTicket;
  };
  const { ticket, expires_at } = await ticketOf();
  expect(Date.parse(expires_at) - Date.now()).toBeLessThanOrEqual(60_000);
  await using client = await open({}, `${pathOf()}?ticket=${ticket}`);
  client.send(start('echo hi'));
  expect(textOf(await client.rest())).toBe('hi\n');
  await expect(open({}, `${pathOf()}?ticket=${ticket}`)).rejects.toThrow('401');
  const { ticket: other } = await ticketOf();
  await expect(open({}, `${pathOf(`sb${'0'.repeat(18)}`)}?ticket=${other}`)).rejects.toThrow('401');
  expect(await readFile(`${shared.dataDir}/log/perchd.log`, 'utf8')).not.toContain(ticket);
});

describe('a connection is refused', () => {
  test.each<[string, Record<string, string>, string, string]>([
    ['without a key', {}, '', '401'],
    ['with a wrong key', { 'x-api-key': `perch_${'0'.repeat(40)}` }, '', '401'],
    ['with a key in the URL', {}, `?api_key=${key}`, '401'],
    ['with a wrong ticket', {}, '?ticket=x', '401'],
    ['from a page of another site', { ...withKey, origin: 'https://evil.example' }, '', '403'],
    ['from a page without an origin', { ...withKey, origin: 'null' }, '', '403'],
  ])('%s', async (_name, headers, query, status) => {
    await expect(open(headers, `${pathOf()}${query}`)).rejects.toThrow(status);
  });

  test('to a sandbox that is not there', async () => {
    await expect(open(withKey, pathOf(`sb${'0'.repeat(18)}`))).rejects.toThrow('404');
  });
});

test('a page that Perch serves may connect', async () => {
  await using client = await open({ ...withKey, origin: url });
  client.send({ type: 'start', cmd: 'true' });
  expect((await client.rest()).at(-1)).toEqual({ type: 'exit', exit_code: 0 });
});

describe('a message that is wrong gets an error and ends the connection', () => {
  test.each<[string, string | Buffer, string]>([
    ['no JSON', 'hello', 'must be JSON'],
    ['binary', Buffer.from('{"type":"start","cmd":"true"}'), 'must be text'],
    ['no type', '{}', 'type is required'],
    ['an unknown type', '{"type":"dance"}', 'type must be one of start, attach, stdin'],
    ['another one first', '{"type":"stdin","data":"x"}', 'must be of type start'],
    ['no command', '{"type":"start"}', 'cmd is required'],
    ['a command with NUL', '{"type":"start","cmd":"a\\u0000b"}', 'cmd must be'],
    ['an unknown field', '{"type":"start","cmd":"true","shell":1}', 'shell is unknown'],
  ])('%s', async (_name, message, problem) => {
    await using client = await open();
    client.socket.send(message);
    expect((await client.rest()).at(-1)).toEqual({
      type: 'error',
      error: {
        code: 'validation_failed',
        message: expect.stringContaining(problem),
        remedy: expect.stringMatching(/./),
        details: { problems: [{ where: expect.any(String), message: expect.any(String) }] },
      },
    });
    expect(await client.closed).toEqual({ code: 1008 });
  });

  test('to a running command, which ends with it', async () => {
    const mark = newMark();
    await using client = await open();
    client.send(start(`echo ready; sleep 3600; : ${mark}`));
    await client.until((one) => one.type === 'stdout');
    client.send({ type: 'signal', signal: 'SIGWINCH' });
    expect((await client.rest()).at(-1)).toMatchObject({ error: { code: 'validation_failed' } });
    await eventually(async () => (await processesOf(mark)) === 0);
  });

  test.each([
    ['user', { user: 'nobody-here' }, 'invalid_user'],
    ['directory', { cwd: '/no/such' }, 'invalid_cwd'],
  ])('a %s that is not there', async (_name, more, code) => {
    const messages = await run({ type: 'start', cmd: 'true', ...more });
    expect(messages).toMatchObject([{ type: 'error', error: { code } }]);
  });
});

test('a client that does not read slows its command down instead of filling the memory', async () => {
  const residentBefore = await residentMb(pids.perchd);
  await using client = await open();
  client.send(start('yes 0123456789 | head -c 100000000 & echo $! >&2; wait'));
  const pid = await client.until((one) => one.type === 'stderr');
  client.socket.pause();
  const producer = 'data' in pid ? Number(pid.data) : 0;
  const written = async () => sh(perch, id, `awk '/^wchar/ {print $2}' /proc/${producer}/io`);
  // It is stopped when two looks, each of them a command of its own, see the same.
  let before = '';
  const stopped = await eventually(async () => {
    const now = await written();
    const same = now === before;
    before = now;
    return same && now;
  }, 120_000);
  expect(Number(stopped)).toBeLessThan(50_000_000);
  expect((await residentMb(pids.perchd)) - residentBefore).toBeLessThan(80);
  client.socket.resume();
  let bytes = 0;
  const end = await client.until((one) => {
    if (one.type === 'stdout' && 'data' in one) bytes += one.data.length;
    return one.type === 'exit' || one.type === 'error';
  });
  expect(end).toEqual({ type: 'exit', exit_code: 0 });
  expect(bytes).toBe(100_000_000);
});

test('a sandbox that is destroyed ends its streams with an error at once', async () => {
  await using sandbox = await newSandbox(perch);
  await using client = await open(withKey, pathOf(sandbox.id));
  client.send(start('echo ready; sleep 3600'));
  await client.until((one) => one.type === 'stdout');
  const destroyed = perch.sandboxes.delete(sandbox.id);
  const end = client.rest();
  expect((await end).at(-1)).toMatchObject({
    type: 'error',
    error: { code: 'sandbox_not_running', remedy: expect.stringMatching(/./) },
  });
  await client.closed;
  await destroyed;
});
