import { randomUUID } from 'node:crypto';
/** Commands that nobody follows, with the real guest agent as an ordinary process. */
import type { Command, CommandList, CommandWithOutput, ErrorBody } from '@perch/protocol';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, type TestPlane } from '../testing/index.ts';
import { agentIsBuilt, RealPlane } from '../testing/real-agent.ts';
import { StreamClient } from '../testing/stream-client.ts';

if (!agentIsBuilt) console.warn('skipped: there is no guest agent; `npm run setup` builds it');

describe.skipIf(!agentIsBuilt)('commands that nobody follows', () => {
  let real: RealPlane;
  let plane: TestPlane;
  let id: string;
  beforeAll(async () => {
    real = await RealPlane.start();
    ({ plane, id } = real);
  }, 60_000);
  afterAll(async () => {
    await real[Symbol.asyncDispose]();
  });

  const at = (path = '', of = id) => `/v1/sandboxes/${of}/commands${path}`;
  const open = (of = id) =>
    StreamClient.open(`${plane.url}/v1/sandboxes/${of}/exec/stream`, { 'x-api-key': plane.key });
  const get = async (pid: number, of = id) =>
    (await (await plane.fetch(at(`/${pid}`, of))).json()) as CommandWithOutput;
  const list = async (query = '') => (await (await plane.fetch(at(query))).json()) as CommandList;
  const failure = async (answer: Response) => {
    const { error } = (await answer.json()) as ErrorBody;
    return [answer.status, error.code];
  };

  /** Starts a command and leaves it. */
  async function leave(start: object, of = id): Promise<number> {
    await using client = await open(of);
    client.send({ type: 'start', detach: true, ...start });
    return await pidOf(client);
  }

  async function pidOf(client: StreamClient): Promise<number> {
    const started = await client.next();
    if (started.type !== 'start') throw new Error(JSON.stringify(started));
    return started.pid;
  }

  const script = (text: string) => ({ cmd: 'sh', args: ['-c', text] });
  const ended = (pid: number, of = id) =>
    eventually(async () => {
      const command = await get(pid, of);
      return command.status === 'ended' && command;
    });

  test('output and exit code of a detached command can be asked for', async () => {
    const pid = await leave(script('echo out; printf "err\\377" >&2; exit 7'));
    expect(await ended(pid)).toMatchObject({
      pid,
      cmd: 'sh',
      exit_code: 7,
      stdout: 'out\n',
      stderr: Buffer.from('err\xff', 'latin1').toString('base64'),
      encoding: { stdout: 'utf-8', stderr: 'base64' },
      truncated: { stdout: false, stderr: false },
    });
  });

  test('of much output the end is kept, in whole characters', async () => {
    const pid = await leave(script("yes €€€ | head -n 50000; printf '\\342\\202'"));
    const { stdout, encoding, truncated } = await ended(pid);
    expect([encoding.stdout, truncated.stdout]).toEqual(['base64', true]);
    expect(Buffer.from(stdout, 'base64').length).toBe(64 * 1024);
    const whole = await leave(script('yes €€€ | head -n 50000'));
    const text = await ended(whole);
    expect([text.encoding.stdout, text.truncated.stdout]).toEqual(['utf-8', true]);
    expect(text.stdout).toMatch(/^[€\n]+$/);
  });

  test('a running command is listed, can be killed, and is told of afterwards', async () => {
    const pid = await leave(script('echo here; sleep 600'));
    const found = (await list('?status=running')).items.find((one) => one.pid === pid);
    expect(found).toMatchObject({ status: 'running', exit_code: null, ended_at: null });
    await eventually(async () => (await get(pid)).stdout === 'here\n');
    const kill = () => plane.fetch(at(`/${pid}`), { method: 'DELETE' });
    expect((await kill()).status).toBe(204);
    expect(await ended(pid)).toMatchObject({ exit_code: 137, stdout: 'here\n' });
    expect((await kill()).status).toBe(204);
    expect((await list('?status=ended')).items.map((one) => one.pid)).toContain(pid);
  });

  test('the list comes in pages, the newest first', async () => {
    const pids: number[] = [];
    for (let n = 0; n < 3; n++) pids.push(await leave(script('sleep 600')));
    const seen: Command[] = [];
    let query = '?status=running&limit=2';
    for (;;) {
      const { items, next_cursor } = await list(query);
      expect(items.length).toBeLessThanOrEqual(2);
      seen.push(...items);
      if (next_cursor === null) break;
      query = `?status=running&limit=2&cursor=${next_cursor}`;
    }
    expect(seen.map(({ pid }) => pid).slice(0, 3)).toEqual(pids.reverse());
    expect(new Set(seen.map(({ pid }) => pid)).size).toBe(seen.length);
    for (const pid of pids) await plane.fetch(at(`/${pid}`), { method: 'DELETE' });
    expect(await failure(await plane.fetch(at('?cursor=!')))).toEqual([400, 'validation_failed']);
    expect(await failure(await plane.fetch(at('?status=done')))).toEqual([400, 'validation_failed']);
  });

  test('what never was is not found', async () => {
    for (const method of ['GET', 'DELETE']) {
      const answer = await plane.fetch(at('/4000000'), { method });
      expect(await failure(answer)).toEqual([404, 'command_not_found']);
    }
    expect(await failure(await plane.fetch(at('/x')))).toEqual([400, 'validation_failed']);
    await using client = await open();
    client.send({ type: 'attach', pid: 4_000_000 });
    expect((await client.rest()).at(-1)).toMatchObject({
      type: 'error',
      error: { code: 'command_not_found' },
    });
    expect(await client.closed).toMatchObject({ code: 1008 });
  });

  test('a client that attaches gets what is kept and what follows, and leaves the command running', async () => {
    const pid = await leave({ ...script('echo ready; read line; echo "$line"; exit 3'), stdin: true });
    await eventually(async () => (await get(pid)).stdout === 'ready\n');
    {
      await using first = await open();
      first.send({ type: 'attach', pid });
      const truncated = { stdout: false, stderr: false };
      expect(await first.next()).toEqual({ type: 'start', pid, truncated });
      expect(await first.next()).toEqual({ type: 'stdout', data: 'ready\n' });
    }
    await using second = await open();
    second.send({ type: 'attach', pid });
    await second.until((one) => one.type === 'stdout');
    second.send({ type: 'stdin', data: 'go on\n' });
    expect(await second.rest()).toEqual([
      { type: 'stdout', data: 'go on\n' },
      { type: 'exit', exit_code: 3 },
    ]);
    expect(await second.closed).toMatchObject({ code: 1000 });
  });

  test('input for a command that takes none is an error, and does not end it', async () => {
    const pid = await leave(script('sleep 600'));
    await using client = await open();
    client.send({ type: 'attach', pid });
    await client.next();
    client.send({ type: 'stdin', data: 'x' });
    expect((await client.rest()).at(-1)).toMatchObject({ type: 'error', error: { code: 'stdin_not_open' } });
    expect((await get(pid)).status).toBe('running');
    await plane.fetch(at(`/${pid}`), { method: 'DELETE' });
  });

  test('a client that leaves before it is told the pid ends the command all the same', async () => {
    const marker = String(100_000 + process.pid);
    {
      await using client = await open();
      client.send({ type: 'start', cmd: 'sleep', args: [marker] });
    }
    await eventually(async () => {
      const { items } = await list('?status=running');
      return !items.some(({ args }) => args[0] === marker);
    });
  });

  test('a restart of perchd ends no command, and each can be attached to again', async () => {
    await using client = await open();
    client.send({ type: 'start', ...script('echo before; read line; echo "$line"; exit 5'), stdin: true });
    const pid = await pidOf(client);
    await client.until((one) => one.type === 'stdout');
    await plane.down();
    expect((await client.rest()).at(-1)).toMatchObject({
      type: 'error',
      error: { code: 'shutting_down', message: expect.stringContaining(`Command ${pid} runs on.`) },
    });
    await plane.up();
    await using again = await open();
    again.send({ type: 'attach', pid });
    again.send({ type: 'stdin', data: 'after\n' });
    const messages = await again.rest();
    const text = messages.map((one) => (one.type === 'stdout' && 'data' in one ? one.data : '')).join('');
    expect(text).toBe('before\nafter\n');
    expect(messages.at(-1)).toEqual({ type: 'exit', exit_code: 5 });
  });

  test('a restart of perchd ends no command whose whole output one call waits for, and names it', async () => {
    const marker = randomUUID();
    const json = { ...script(`sleep 600; echo ${marker}`), timeout_sec: 600 };
    const asked = plane.fetch(`/v1/sandboxes/${id}/exec`, { json });
    const running = async () => {
      const { items } = await list('?status=running');
      return items.find(({ args }) => args.some((arg) => arg.includes(marker)));
    };
    await eventually(async () => (await running()) !== undefined);
    const pid = (await running())?.pid;
    const down = plane.down();
    const answer = await asked;
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({
      error: { code: 'shutting_down', message: `perchd is shutting down. Command ${pid} runs on.` },
    });
    await down;
    await plane.up();
    expect((await running())?.pid).toBe(pid);
    await plane.fetch(at(`/${pid}`), { method: 'DELETE' });
    await eventually(async () => (await running()) === undefined);
  });

  test('a running command keeps an idle sandbox, also when perchd has restarted, until it ends', async () => {
    const idle = await plane.create();
    const pid = await leave(script('sleep 600'), idle.id);
    await plane.endAfter(idle.id, 1);
    const lastUsed = async () => (await plane.get(idle.id)).last_active_at ?? '';
    const isUsedAgain = async (before: string) => eventually(async () => (await lastUsed()) > before);
    await isUsedAgain(await lastUsed());
    await plane.down();
    await plane.up();
    await isUsedAgain(await lastUsed());
    expect((await plane.get(idle.id)).status).toBe('running');
    await plane.fetch(at(`/${pid}`, idle.id), { method: 'DELETE' });
    await eventually(async () => (await plane.get(idle.id)).status === 'destroyed');
  });
});
