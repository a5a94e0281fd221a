/** Many requests at once to one agent, and an agent that no connection reaches. */
import { setImmediate as turn } from 'node:timers/promises';
import { isPerchError, type PerchError } from '@perch/protocol';
import { afterEach, expect, test } from 'vitest';
import { createGuestClient, type GuestClient, type GuestClientOptions } from './index.ts';
import { collect } from './testing/collect.ts';
import { type FakeAgent, fakeAgent, head, jsonAnswer, started, streamAnswer } from './testing/fake-agent.ts';

const streams = 400;
const transfers = 48;
const clients: GuestClient[] = [];

afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
});

function clientOf({ port }: Pick<FakeAgent, 'port'>, limits: Partial<GuestClientOptions> = {}): GuestClient {
  const client = createGuestClient({
    ...{ address: '127.0.0.1', port, accessToken: 'secret', sandboxId: 'sbtest' },
    ...limits,
  });
  clients.push(client);
  return client;
}

/** Commands never end, a file has one byte, and directories are made at once; nothing else is answered. */
function busyAgent(): Promise<FakeAgent> {
  return fakeAgent((socket, request) => {
    if (request.includes('/process.Process/Start')) socket.write(streamAnswer(started));
    else if (request.startsWith('GET /files?path=%2Fone'))
      socket.end(`${head('200 OK', { 'content-length': '1' })}x`);
    else if (request.includes('/perch.Commands/List')) socket.end(jsonAnswer('200 OK', {}));
  });
}

const follow = (client: GuestClient, signal?: AbortSignal) =>
  client.start({ cmd: 'sleep', stdin: true, signal });

async function failure(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => 'nothing failed',
    (reason: unknown) => reason,
  );
}

test('a command over the limit of streams is refused at once, and all else goes on', async () => {
  await using agent = await busyAgent();
  const client = clientOf(agent);
  const enough = new AbortController();
  await Promise.all(Array.from({ length: streams }, () => follow(client, enough.signal)));
  for (const more of [follow(client), client.attach(7)]) {
    const error = await failure(more);
    expect(isPerchError(error, 'sandbox_busy') && error.details).toEqual({ id: 'sbtest', limit: streams });
    expect((error as PerchError).status).toBe(429);
  }
  const { stream } = await client.readFile('/one');
  expect(Buffer.concat(await collect(stream)).toString()).toBe('x');
  expect(await client.commands()).toEqual([]);
  enough.abort(new Error('enough'));
  await expect.poll(() => follow(client).then(({ pid }) => pid)).toBe(7);
});

test('a transfer waits for others, and is refused when none ends', async () => {
  await using agent = await busyAgent();
  const client = clientOf(agent, { callTimeoutMs: 1_000 });
  const enough = new AbortController();
  const held = Array.from({ length: transfers }, () =>
    failure(client.remove('/slow', { signal: enough.signal })),
  );
  await expect.poll(() => agent.connections()).toBe(transfers);
  for (const more of [client.remove('/x'), client.readFile('/one'), client.writeFile('/x', only('x'))]) {
    const error = await failure(more);
    expect(isPerchError(error, 'sandbox_busy') && error.details).toEqual({ id: 'sbtest', limit: transfers });
  }
  const waiting = client.readFile('/one');
  enough.abort(new Error('enough'));
  await Promise.all(held);
  expect(Buffer.concat(await collect((await waiting).stream)).toString()).toBe('x');
});

test('a request that waits for a connection ends with its signal', async () => {
  await using agent = await busyAgent();
  const client = clientOf(agent);
  const held = [
    ...Array.from({ length: 8 }, () => failure(client.stat('/slow'))),
    ...Array.from({ length: 48 }, (_, pid) => failure(client.sendStdin(pid + 1, Buffer.from('x')))),
    ...Array.from({ length: transfers }, () => failure(client.remove('/slow'))),
  ];
  await expect.poll(() => agent.connections()).toBe(held.length);
  const stop = new AbortController();
  const { signal } = stop;
  const waiting = [
    client.stat('/x', { signal }),
    client.sendStdin(99, Buffer.from('x'), signal),
    client.closeStdin(99, signal),
    client.remove('/x', { signal }),
    client.readFile('/x', { signal }),
    client.writeFile('/x', only('x'), { signal }),
  ].map(failure);
  await turn();
  stop.abort(new Error('enough'));
  for (const outcome of await Promise.all(waiting)) expect(outcome).toEqual(new Error('enough'));
  await client.close();
  await Promise.all(held);
});

test('the time of a command holds where no connection is made', async () => {
  const client = clientOf({ port: 1 }, { graceMs: 20, pool: { connect: () => {} } });
  const { pid, events } = await client.start({ cmd: 'true', stdin: false, timeoutMs: 20 });
  expect(pid).toBe(0);
  expect(await collect(events)).toEqual([{ type: 'timeout', unanswered: true }]);
});

async function* only(text: string) {
  yield Buffer.from(text);
}
