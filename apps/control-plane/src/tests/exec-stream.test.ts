import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecServerMessage, ExecTicket } from '@perch/protocol';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually, standsStill, TestPlane } from '../testing/index.ts';
import { StreamClient } from '../testing/stream-client.ts';

let plane: TestPlane;
let id: string;
beforeAll(async () => {
  plane = await TestPlane.start();
  ({ id } = await plane.create());
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());

const path = () => `/v1/sandboxes/${id}/exec/stream`;
const open = (headers: Record<string, string> = { 'x-api-key': plane.key }, where = path()) =>
  StreamClient.open(`${plane.url}${where}`, headers);
const children = () => plane.guests.get(id)?.children.size ?? 0;

async function run(start: object): Promise<ExecServerMessage[]> {
  await using client = await open();
  client.send({ type: 'start', ...start });
  return await client.rest();
}

function textOf(messages: ExecServerMessage[], stream: 'stdout' | 'stderr'): string {
  return messages.map((one) => (one.type === stream && 'data' in one ? one.data : '')).join('');
}

test('a command is streamed line by line as it speaks', async () => {
  await using client = await open();
  client.send({
    type: 'start',
    cmd: 'sh',
    args: ['-c', 'for i in 1 2 3; do echo $i; read -r heard; done; exit 4'],
    stdin: true,
  });
  expect(await client.next()).toMatchObject({ type: 'start', pid: expect.any(Number) });
  for (const line of ['1\n', '2\n', '3\n']) {
    expect(await client.next()).toEqual({ type: 'stdout', data: line });
    client.send({ type: 'stdin', data: '\n' });
  }
  expect(await client.next()).toEqual({ type: 'exit', exit_code: 4 });
  expect(await client.closed).toMatchObject({ code: 1000 });
});

test('no character is split or replaced, and bytes that are no text come as base64', async () => {
  const text = await run({ cmd: 'sh', args: ['-c', "printf '\\360\\237'; sleep 0.2; printf '\\246\\234!'"] });
  expect(textOf(text, 'stdout')).toBe('🦜!');
  const bytes = await run({ cmd: 'printf', args: ['a\\377'] });
  expect(bytes).toContainEqual({ type: 'stdout', data_base64: Buffer.from([0x61, 0xff]).toString('base64') });
  const cut = await run({ cmd: 'printf', args: ['\\342\\202'] });
  expect(cut).toContainEqual({ type: 'stdout', data_base64: '4oI=' });
});

test('stdin is passed in order, as text and as bytes, until it is closed', async () => {
  await using client = await open();
  client.send({ type: 'start', cmd: 'cat', stdin: true });
  client.send({ type: 'stdin', data: 'one ' });
  client.send({ type: 'stdin', data_base64: Buffer.from('two').toString('base64') });
  client.send({ type: 'stdin_close' });
  const messages = await client.rest();
  expect(textOf(messages, 'stdout')).toBe('one two');
  expect(messages.at(-1)).toEqual({ type: 'exit', exit_code: 0 });
});

test('with binary messages bytes go as they are, and no character is split', async () => {
  await using client = await open();
  const received: Buffer[] = [];
  client.socket.on('message', (data: Buffer, isBinary) => {
    if (isBinary) received.push(data);
  });
  const closed = client.closed;
  client.send({
    type: 'start',
    cmd: 'sh',
    args: ['-c', "cat; printf '\\342\\202' >&2"],
    stdin: true,
    binary: true,
  });
  const input = Buffer.from('a\u0000🦜'.repeat(50_000));
  client.socket.send(Buffer.concat([Buffer.from([0]), input.subarray(0, 100_001)]));
  client.socket.send(Buffer.concat([Buffer.from([0]), input.subarray(100_001)]));
  client.send({ type: 'stdin_close' });
  expect(await closed).toMatchObject({ code: 1000 });
  const of = (number: number) =>
    received.filter(([first]) => first === number).map((data) => data.subarray(1));
  expect(Buffer.concat(of(1)).equals(input)).toBe(true);
  expect(of(1).every((data) => isUtf8(data))).toBe(true);
  expect(Buffer.concat(of(2))).toEqual(Buffer.from([0xe2, 0x82]));
});

test('a binary message that was not asked for, or is not stdin, is told and ends the connection', async () => {
  for (const [binary, message] of [
    [false, [0, 1]],
    [true, [1, 1]],
    [true, []],
  ] as const) {
    await using client = await open();
    client.send({ type: 'start', cmd: 'cat', stdin: true, binary });
    await client.until((one) => one.type === 'start');
    client.socket.send(Buffer.from(message));
    expect((await client.rest()).at(-1)).toMatchObject({
      type: 'error',
      error: { code: 'validation_failed' },
    });
    expect(await client.closed).toMatchObject({ code: 1008 });
  }
});

test('input that start did not ask for, and input after its end, is an error', async () => {
  for (const [start, ...before] of [
    [{ type: 'start', cmd: 'sleep', args: ['60'] }],
    [{ type: 'start', cmd: 'sleep', args: ['60'], stdin: true }, { type: 'stdin_close' }],
  ]) {
    await using client = await open();
    client.send(start as object);
    await client.until((one) => one.type === 'start');
    for (const message of before) client.send(message);
    client.send({ type: 'stdin', data: 'x' });
    expect((await client.rest()).at(-1)).toMatchObject({ type: 'error', error: { code: 'stdin_not_open' } });
    expect(await client.closed).toMatchObject({ code: 1008 });
    await eventually(() => children() === 0);
  }
});

test('a message that is too large is told so', async () => {
  await using client = await open();
  client.send({ type: 'start', cmd: 'cat', stdin: true });
  await client.until((one) => one.type === 'start');
  client.send({ type: 'stdin', data: 'x'.repeat(20 * 1024 * 1024) });
  expect((await client.rest()).at(-1)).toMatchObject({ type: 'error', error: { code: 'body_too_large' } });
  expect(await client.closed).toMatchObject({ code: 1009 });
  await eventually(() => children() === 0);
});

test('a signal reaches the command', async () => {
  await using client = await open();
  client.send({
    type: 'start',
    cmd: 'sh',
    args: ['-c', 'trap "exit 7" USR1; echo ready; while :; do sleep 0.05; done'],
  });
  await client.until((one) => one.type === 'stdout');
  client.send({ type: 'signal', signal: 'SIGUSR1' });
  expect((await client.rest()).at(-1)).toEqual({ type: 'exit', exit_code: 7 });
});

test('stop kills the command', async () => {
  await using client = await open();
  client.send({ type: 'start', cmd: 'sleep', args: ['60'] });
  await client.until((one) => one.type === 'start');
  client.send({ type: 'stop' });
  expect((await client.rest()).at(-1)).toEqual({ type: 'exit', exit_code: 137 });
});

test('a client that goes away ends the command, and a detached one lives on', async () => {
  const client = await open();
  client.send({ type: 'start', cmd: 'sleep', args: ['60'] });
  await client.until((one) => one.type === 'start');
  client.socket.terminate();
  await eventually(() => children() === 0);

  const detached = await open();
  detached.send({ type: 'start', cmd: 'sleep', args: ['60'], detach: true });
  const started = (await detached.until((one) => one.type === 'start')) as { pid: number };
  detached.socket.terminate();
  await sleep(300);
  expect(() => process.kill(started.pid, 0)).not.toThrow();
  process.kill(started.pid, 'SIGKILL');
});

test('a time-out is an error message', async () => {
  const messages = await run({ cmd: 'sh', args: ['-c', 'echo a; sleep 60'], timeout_sec: 3 });
  expect(textOf(messages, 'stdout')).toBe('a\n');
  expect(messages.at(-1)).toMatchObject({ type: 'error', error: { code: 'exec_timeout' } });
});

test('a slow client holds the command up instead of filling the memory', async () => {
  await using client = await open();
  client.send({
    type: 'start',
    cmd: 'seq',
    args: ['1000000', '7000000'],
  });
  const { pid } = (await client.until((one) => one.type === 'start')) as { pid: number };
  client.socket.pause();
  const written = () => Number(/wchar: (\d+)/.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1]);
  const total = 8 * 6_000_001;
  await standsStill(written);
  expect(written()).toBeLessThan(total);
  expect(children()).toBe(1);
  client.socket.resume();
  let bytes = 0;
  for (;;) {
    const message = await client.next();
    if (message.type === 'stdout') bytes += 'data' in message ? message.data.length : 0;
    if (message.type === 'exit' || message.type === 'error') break;
  }
  expect(bytes).toBe(total);
}, 60_000);

test('a sandbox that dies ends the stream with an error', async () => {
  const other = await plane.create();
  await using client = await open(undefined, `/v1/sandboxes/${other.id}/exec/stream`);
  client.send({ type: 'start', cmd: 'sleep', args: ['60'] });
  await client.until((one) => one.type === 'start');
  plane.host.change(other.id, { status: 'failed', reason: 'it burned' });
  expect((await client.rest()).at(-1)).toMatchObject({
    type: 'error',
    error: {
      code: 'sandbox_failed',
      message: expect.stringContaining('it burned'),
      remedy: expect.any(String),
    },
  });
});

test('an open stream is use of the sandbox', async () => {
  const other = await plane.create();
  await using client = await open(undefined, `/v1/sandboxes/${other.id}/exec/stream`);
  client.send({ type: 'start', cmd: 'sleep', args: ['60'] });
  await client.until((one) => one.type === 'start');
  await plane.endAfter(other.id, 1);
  await sleep(2_500);
  expect((await plane.get(other.id)).status).toBe('running');
  client.socket.terminate();
  await eventually(async () => (await plane.get(other.id)).status === 'destroyed');
});

test.each([
  ['no JSON', 'hello', 'must be JSON'],
  ['another first message', '{"type":"stdin","data":"x"}', 'must be of type start'],
  [
    'an unknown type',
    '{"type":"dance"}',
    'type must be one of start, attach, stdin, resize, stdin_close, signal, stop',
  ],
  ['an unknown field', '{"type":"start","cmd":"true","shell":1}', 'shell is unknown'],
  ['no command', '{"type":"start"}', 'cmd is required'],
])('%s is told and ends the connection', async (_name, text, problem) => {
  await using client = await open();
  client.socket.send(text);
  expect((await client.rest()).at(-1)).toMatchObject({
    type: 'error',
    error: { code: 'validation_failed', message: expect.stringContaining(problem) },
  });
  expect(await client.closed).toMatchObject({ code: 1008 });
});

test('a wrong message ends a running command', async () => {
  await using client = await open();
  client.send({ type: 'start', cmd: 'sleep', args: ['60'] });
  await client.until((one) => one.type === 'start');
  client.send({ type: 'signal', signal: 'SIGWINCH' });
  expect((await client.rest()).at(-1)).toMatchObject({ type: 'error', error: { code: 'validation_failed' } });
  await eventually(() => children() === 0);
});

test('a ticket opens one connection, of its own sandbox', async () => {
  const ask = async () =>
    (await (await plane.fetch(`/v1/sandboxes/${id}/exec/ticket`, { method: 'POST' })).json()) as ExecTicket;
  const { ticket, expires_at } = await ask();
  expect(Date.parse(expires_at) - Date.now()).toBeLessThanOrEqual(60_000);
  await using client = await open({}, `${path()}?ticket=${ticket}`);
  client.send({ type: 'start', cmd: 'echo', args: ['hi'] });
  expect(textOf(await client.rest(), 'stdout')).toBe('hi\n');
  await expect(open({}, `${path()}?ticket=${ticket}`)).rejects.toThrow('401');
  const other = await plane.create();
  const { ticket: second } = await ask();
  await expect(open({}, `/v1/sandboxes/${other.id}/exec/stream?ticket=${second}`)).rejects.toThrow('401');
  expect(plane.logLines.join('')).not.toContain(ticket);
});

test.each([
  ['no key', {}, '401'],
  ['a wrong key', { 'x-api-key': `perch_${'0'.repeat(40)}` }, '401'],
])('%s is refused before the connection', async (_name, headers, status) => {
  await expect(open(headers)).rejects.toThrow(status);
});

test('a page of another site is refused, and one of our own is not', async () => {
  const key = { 'x-api-key': plane.key };
  await expect(open({ ...key, origin: 'https://evil.example' })).rejects.toThrow('403');
  await expect(open({ ...key, origin: 'null' })).rejects.toThrow('403');
  await using client = await open({ ...key, origin: plane.url });
  client.send({ type: 'start', cmd: 'true' });
  expect((await client.rest()).at(-1)).toEqual({ type: 'exit', exit_code: 0 });
});

test('an unknown sandbox is refused before the connection, and a plain GET is told', async () => {
  const headers = { 'x-api-key': plane.key };
  await expect(open(headers, '/v1/sandboxes/sb000000000000000000/exec/stream')).rejects.toThrow('404');
  const answer = await plane.fetch(path());
  expect(answer.status).toBe(400);
  expect(await answer.text()).toContain('needs a WebSocket');
});
