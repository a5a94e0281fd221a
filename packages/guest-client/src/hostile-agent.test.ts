import { getEventListeners } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { isPerchError } from '@perch/protocol';
import { afterEach, expect, test } from 'vitest';
import { createGuestClient, type GuestClient, type GuestClientOptions, type ProcessEvent } from './index.ts';
import { collect } from './testing/collect.ts';
import {
  ended,
  endOfStream,
  type FakeAgent,
  fakeAgent,
  head,
  jsonAnswer,
  message,
  started,
  streamAnswer,
} from './testing/fake-agent.ts';

const command = { cmd: 'x', stdin: false, leash: 'end' } as const;
const clients: GuestClient[] = [];

function clientOf(agent: FakeAgent, limits: Partial<GuestClientOptions> = {}) {
  const client = createGuestClient({
    address: '127.0.0.1',
    port: agent.port,
    accessToken: 'secret',
    sandboxId: 'sbtest',
    ...limits,
  });
  clients.push(client);
  return client;
}

afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
});

async function codeOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => 'nothing',
    (reason: unknown) => reason,
  );
  return (error as { code?: string }).code ?? String(error);
}

async function run(client: GuestClient): Promise<ProcessEvent[]> {
  const process = await client.start(command);
  return await collect(process.events);
}

test('an honest stream gives its events', async () => {
  await using agent = await fakeAgent((socket) => {
    const output = { event: { data: { stdout: Buffer.from('hi').toString('base64') } } };
    socket.end(
      Buffer.concat([streamAnswer(started, { event: { keepalive: {} } }, output, ended), endOfStream()]),
    );
  });
  expect(await run(clientOf(agent))).toEqual([
    { type: 'stdout', data: Buffer.from('hi') },
    { type: 'end', exitCode: 3 },
  ]);
  expect(agent.received()).toContain('perch-kill-on-disconnect: 1');
  expect(agent.received()).toContain('x-access-token: secret');
});

test('a watch gives its changes, and nothing that is none', async () => {
  const change = (type: unknown, name: unknown) => ({ filesystem: { type, name } });
  const begun = { start: {} };
  const lost = { error: { code: 'resource_exhausted', message: 'events were lost' } };
  const gone = { error: { code: 'not_found', message: 'gone', reason: 'missing' } };
  const full = { error: { code: 'resource_exhausted', message: '64 watches', reason: 'exhausted' } };
  for (const [messages, end, changes, code] of [
    [[begun, { keepalive: {} }, change('EVENT_TYPE_WRITE', 'a')], lost, 1, 'events_lost'],
    [[begun], gone, 0, 'file_not_found'],
    [[begun], {}, 0, 'guest_protocol'],
    [[begun, change('EVENT_TYPE_CREATE', '')], lost, 0, 'guest_protocol'],
    [[begun, change('constructor', 'a')], lost, 0, 'guest_protocol'],
    [[begun, change('EVENT_TYPE_CREATE', 'a'.repeat(20_000))], lost, 0, 'guest_protocol'],
    [[change('EVENT_TYPE_CREATE', 'a')], lost, 0, 'guest_protocol'],
    [[], full, 0, 'sandbox_out_of_resources'],
    [[], {}, 0, 'guest_protocol'],
  ] as const) {
    await using agent = await fakeAgent((socket) =>
      socket.end(Buffer.concat([streamAnswer(...messages), endOfStream(end)])),
    );
    const seen: unknown[] = [];
    const watch = async () => {
      for await (const one of await clientOf(agent).watch('/d')) seen.push(one);
    };
    expect(await codeOf(watch())).toBe(code);
    expect(seen).toHaveLength(changes);
  }
});

test('an end for want of memory says so, and no other reason is passed on', async () => {
  for (const [reason, expected] of [
    ['out_of_memory', { reason: 'out_of_memory' }],
    ['boredom', {}],
    [7, {}],
  ]) {
    const end = { event: { end: { exitCode: -1, signal: 9, reason } } };
    await using agent = await fakeAgent((socket) =>
      socket.end(Buffer.concat([streamAnswer(started, end), endOfStream()])),
    );
    expect(await run(clientOf(agent))).toEqual([
      { type: 'end', exitCode: 137, signal: 9, ...(expected as object) },
    ]);
  }
});

test('an agent that gives a directory as one is asked for it page by page all the same', async () => {
  const entries = ['c', 'a', 'b'].map((name) => ({
    ...{
      name,
      path: `/d/${name}`,
      type: 'FILE_TYPE_FILE',
      size: '1',
      mode: 0o644,
      permissions: '-rw-r--r--',
    },
    ...{ owner: 'user', group: 'user', modifiedTime: '2001-02-03T04:05:06Z' },
  }));
  await using agent = await fakeAgent((socket, request) => {
    const isPage = request.includes('/perch.Files/List');
    const error = { code: 'unimplemented', message: 'not implemented' };
    socket.end(isPage ? jsonAnswer('404 Not Found', error) : jsonAnswer('200 OK', { entries }));
  });
  const client = clientOf(agent);
  const names: string[][] = [];
  let cursor: string | undefined;
  do {
    const page = await client.listPage('/d', { limit: 2, cursor });
    names.push(page.entries.map(({ name }) => name));
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  expect(names).toEqual([['a', 'b'], ['c']]);
});

test.each([
  ['more than was asked for', { entries: [{}, {}] }],
  ['no list', { entries: 7 }],
  ['a malformed cursor', { entries: [], nextCursor: '*' }],
])('a page with %s is guest_protocol', async (_, answer) => {
  await using agent = await fakeAgent((socket) => socket.end(jsonAnswer('200 OK', answer)));
  expect(await codeOf(clientOf(agent).listPage('/d', { limit: 1 }))).toBe('guest_protocol');
});

const brokenStreams: [string, Buffer][] = [
  ['without an end', streamAnswer(started, ended)],
  ['without an exit code', Buffer.concat([streamAnswer(started), endOfStream()])],
  ['without a start', Buffer.concat([streamAnswer(ended), endOfStream()])],
  ['with two starts', Buffer.concat([streamAnswer(started, started), endOfStream()])],
  ['with output after its exit code', Buffer.concat([streamAnswer(started, ended, ended), endOfStream()])],
  ['of an unknown event', streamAnswer(started, { event: { other: {} } })],
  ['of no event', streamAnswer(started, { event: null })],
  ['of broken JSON', streamAnswer(started, '{"event":')],
  ['of an array', streamAnswer(started, '[]')],
  ['of JSON too deep', streamAnswer(started, '['.repeat(500_000))],
  ['of a pid that is text', streamAnswer({ event: { start: { pid: 'x' } } })],
  ['of an exit code that is none', streamAnswer(started, { event: { end: { exitCode: 1e9 } } })],
  ['of a flag that is none', Buffer.concat([streamAnswer(started), Buffer.from([1, 0, 0, 0, 0])])],
  ['of a message too long', Buffer.concat([streamAnswer(started), Buffer.from([0, 0x7f, 0, 0, 0])])],
  ['of another type', Buffer.from(`${head('200 OK', { 'content-type': 'text/html' })}x`)],
  ['of no HTTP', Buffer.from('SSH-2.0-OpenSSH\r\n\r\n')],
  ['with a head too large', Buffer.from(head('200 OK', { big: 'x'.repeat(100_000) }))],
];

test.each(brokenStreams)('a stream %s is guest_protocol', async (_, answer) => {
  await using agent = await fakeAgent((socket) => socket.end(answer));
  expect(await codeOf(run(clientOf(agent)))).toBe('guest_protocol');
});

test('one that never says that input was taken or closed is waited for as long as the caller likes', async () => {
  await using agent = await fakeAgent(() => {});
  const client = clientOf(agent);
  for (const call of [
    (signal: AbortSignal) => client.sendStdin(1, Buffer.from('x'), signal),
    (signal: AbortSignal) => client.closeStdin(1, signal),
  ]) {
    const enough = new AbortController();
    const waiting = expect(call(enough.signal)).rejects.toThrow('enough');
    await sleep(20);
    enough.abort(new Error('enough'));
    await waiting;
  }
});

test('a connection that breaks in the middle of a stream is guest_unavailable', async () => {
  await using agent = await fakeAgent((socket) => {
    socket.write(
      Buffer.concat([
        Buffer.from(head('200 OK', { 'content-type': 'application/connect+json', 'content-length': '1000' })),
        message(started),
      ]),
    );
    setTimeout(() => socket.destroy(), 20);
  });
  expect(await codeOf(run(clientOf(agent)))).toBe('guest_unavailable');
});

test('silence on a stream is guest_unavailable', async () => {
  await using agent = await fakeAgent((socket) => socket.write(streamAnswer(started)));
  expect(await codeOf(run(clientOf(agent, { idleTimeoutMs: 1000 })))).toBe('guest_unavailable');
});

test('an agent that is not there is guest_unavailable', async () => {
  const agent = await fakeAgent(() => {});
  const client = clientOf(agent);
  await agent[Symbol.asyncDispose]();
  expect(await codeOf(client.start(command))).toBe('guest_unavailable');
  expect(await codeOf(client.readFile('/x'))).toBe('guest_unavailable');
  expect(await codeOf(client.writeFile('/x', stream(['x'])))).toBe('guest_unavailable');
});

test('a call that gets its answer drop by drop ends in time', async () => {
  await using agent = await fakeAgent((socket) => {
    socket.write(head('200 OK', { 'content-type': 'application/json', 'content-length': '100000' }));
    const timer = setInterval(() => socket.write(' '), 20);
    socket.on('close', () => clearInterval(timer));
  });
  expect(await codeOf(clientOf(agent, { callTimeoutMs: 200 }).commands())).toBe('guest_unavailable');
});

test('an answer without end is cut off', async () => {
  await using agent = await fakeAgent((socket) => {
    socket.write(head('200 OK', { 'content-type': 'application/json' }));
    const flood = () => {
      while (!socket.destroyed && socket.write(Buffer.alloc(65_536, 0x20)));
    };
    socket.on('drain', flood);
    flood();
  });
  expect(await codeOf(clientOf(agent).commands())).toBe('guest_protocol');
});

test('a redirect is not followed', async () => {
  await using agent = await fakeAgent((socket) => {
    socket.write(head('302 Found', { location: 'http://127.0.0.1:1/', 'content-length': '0' }));
  });
  const client = clientOf(agent);
  expect(await codeOf(client.stat('/x'))).toBe('guest_protocol');
  expect(await codeOf(client.readFile('/x'))).toBe('guest_protocol');
});

test('the words of the guest come without control characters, and cut', async () => {
  await using agent = await fakeAgent((socket) => {
    const text = `\u001b]0;pwned\u0007${'x'.repeat(5000)}`;
    socket.write(jsonAnswer('500 Oops', { code: 'internal', message: text }));
  });
  const error = await clientOf(agent)
    .stat('/x')
    .catch((reason: unknown) => reason);
  expect(isPerchError(error, 'file_io_failed') && error.message).toMatch(/^[ -~…]{1,400}$/);
});

test.each([
  ['an entry without a path that fits', { entry: { path: 'x'.repeat(20_000) } }],
  ['an entry of a bad time', { entry: { path: '/x', modifiedTime: 'soon' } }],
  ['an entry of a bad size', { entry: { path: '/x', size: '-1', modifiedTime: '2025-01-01T00:00:00Z' } }],
  ['no entry', {}],
])('%s is guest_protocol', async (_, answer) => {
  await using agent = await fakeAgent((socket) => socket.write(jsonAnswer('200 OK', answer)));
  expect(await codeOf(clientOf(agent).stat('/x'))).toBe('guest_protocol');
});

test.each([
  ['perch-mode', '4755'],
  ['perch-mode', 'rwx'],
  ['perch-mtime', 'yesterday'],
])('a file whose %s is %s is guest_protocol', async (name, value) => {
  const attributes = { 'perch-mode': '0644', 'perch-mtime': '2001-02-03T04:05:06Z', [name]: value };
  await using agent = await fakeAgent((socket) =>
    socket.end(`${head('200 OK', { 'content-length': '1', ...attributes })}x`),
  );
  expect(await codeOf(clientOf(agent).readFile('/x'))).toBe('guest_protocol');
});

test('a file that ends before its length is transfer_interrupted', async () => {
  await using agent = await fakeAgent((socket) => {
    socket.end(`${head('200 OK', { 'content-length': '10' })}12345`);
  });
  const { stream: content, size } = await clientOf(agent).readFile('/x');
  expect(size).toBe(10);
  expect(await codeOf(collect(content))).toBe('transfer_interrupted');
});

test('a chunked file that breaks off is transfer_interrupted', async () => {
  await using agent = await fakeAgent((socket) => {
    socket.end(`${head('200 OK', { 'transfer-encoding': 'chunked' })}5\r\n12345\r\n`);
  });
  const { stream: content } = await clientOf(agent).readFile('/x');
  expect(await codeOf(collect(content))).toBe('transfer_interrupted');
});

test('an agent that stops taking an upload is guest_unavailable', async () => {
  await using agent = await fakeAgent((socket) => socket.pause());
  async function* endless() {
    for (;;) yield Buffer.alloc(65_536);
  }
  expect(await codeOf(clientOf(agent, { idleTimeoutMs: 300 }).writeFile('/x', endless()))).toBe(
    'guest_unavailable',
  );
});

test('an upload whose source fails, or is not of its size, is transfer_interrupted', async () => {
  await using agent = await fakeAgent(() => {});
  const client = clientOf(agent);
  async function* broken() {
    yield Buffer.from('x');
    throw new Error('disk on fire');
  }
  expect(await codeOf(client.writeFile('/x', broken()))).toBe('transfer_interrupted');
  expect(await codeOf(client.writeFile('/x', stream(['123']), { size: 5 }))).toBe('transfer_interrupted');
  expect(await codeOf(client.writeFile('/x', stream(['123']), { size: 2 }))).toBe('transfer_interrupted');
});

test.each([{ size: 40 * 256 * 1024 }, {}])(
  'a chunk of an upload has left when the next one is asked for (%j)',
  async (options) => {
    const expected = Buffer.concat(Array.from({ length: 40 }, (_, i) => Buffer.alloc(256 * 1024, 0x80 + i)));
    const received: Buffer[] = [];
    let length = 0;
    await using agent = await fakeAgent((socket, request) => {
      // One who takes little at a time, so that much of each chunk has to wait. Heads and lengths are ASCII.
      const take = (chunk: Buffer) => {
        const bytes = chunk.filter((byte) => byte >= 0x80);
        received.push(Buffer.from(bytes));
        length += bytes.length;
        socket.pause();
        setTimeout(() => socket.resume(), 1);
        if (length === expected.length) socket.write(jsonAnswer('200 OK', []));
      };
      socket.removeAllListeners('data').on('data', take);
      take(Buffer.from(request, 'latin1'));
    });
    async function* reused() {
      const memory = Buffer.allocUnsafe(256 * 1024);
      for (let i = 0; i < 40; i++) yield memory.fill(0x80 + i);
    }
    await clientOf(agent).writeFile('/x', reused(), options);
    expect(expected.equals(Buffer.concat(received))).toBe(true);
  },
);

test('an early refusal of an upload is told, not a broken connection', async () => {
  await using agent = await fakeAgent((socket) => {
    socket.write(jsonAnswer('507 Full', { code: 507, message: 'not enough disk space' }));
  });
  async function* large() {
    for (let i = 0; i < 200; i++) yield Buffer.alloc(65_536);
  }
  expect(await codeOf(clientOf(agent).writeFile('/x', large()))).toBe('disk_full');
});

test('leaving the events closes the connection', async () => {
  let closed = () => {};
  const gone = new Promise<void>((resolve) => {
    closed = resolve;
  });
  await using agent = await fakeAgent((socket) => {
    socket.on('close', closed);
    socket.write(streamAnswer(started, { event: { data: { stderr: 'eA==' } } }));
  });
  const process = await clientOf(agent).start(command);
  for await (const event of process.events) {
    expect(event.type).toBe('stderr');
    break;
  }
  await gone;
});

test.each([undefined, 60_000])(
  'a caller who cancels a command of %s ms gets its own reason',
  async (timeoutMs) => {
    await using agent = await fakeAgent((socket) => socket.write(streamAnswer(started)));
    const client = clientOf(agent);
    const cancel = new AbortController();
    const process = await client.start({ ...command, timeoutMs, signal: cancel.signal });
    setTimeout(() => cancel.abort(new Error('enough')), 20);
    await expect(collect(process.events)).rejects.toThrow('enough');
    await expect(client.start({ ...command, timeoutMs, signal: cancel.signal })).rejects.toThrow('enough');
  },
);

test('a command that has ended, or never began, leaves nothing at the signal of its caller', async () => {
  const answers = [Buffer.concat([streamAnswer(started, ended), endOfStream()]), jsonAnswer('500 No', {})];
  await using agent = await fakeAgent((socket) => socket.end(answers.shift() ?? ''));
  const { signal } = new AbortController();
  const start = () => clientOf(agent).start({ ...command, timeoutMs: 60_000, signal });
  await collect((await start()).events);
  expect(getEventListeners(signal, 'abort')).toEqual([]);
  await expect(start()).rejects.toThrow();
  expect(getEventListeners(signal, 'abort')).toEqual([]);
});

test('the agent of an older snapshot gets input in the form that it knows', async () => {
  const gone = JSON.stringify({ code: 'not_found', message: 'no such process' });
  await using agent = await fakeAgent((socket, request) => {
    if (!request.includes('/process.Process/SendInput')) {
      const unknown = { code: 'unimplemented', message: 'not implemented' };
      socket.end(jsonAnswer('501 Not Implemented', unknown));
    } else if (agent.received().includes('"pid":8')) socket.end(jsonAnswer('404 Not Found', gone));
    else socket.end(jsonAnswer('200 OK', {}));
  });
  const client = clientOf(agent);
  expect(await client.sendStdin(7, Buffer.from('in\0put'))).toBe(true);
  expect(agent.received()).toContain('{"process":{"pid":7},"input":{"stdin":"aW4AcHV0"}}');
  expect(await client.sendStdin(8, Buffer.from('x'))).toBe(false);
});

test('an archive that breaks off is an error, and the agent of an older snapshot has none', async () => {
  const answers = [
    jsonAnswer('501 Not Implemented', { code: 'unimplemented', message: 'only POST is implemented' }),
    'HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n',
  ];
  await using agent = await fakeAgent((socket) => socket.end(answers.shift() ?? ''));
  const client = clientOf(agent);
  expect(await codeOf(client.readArchive('/dir'))).toBe('agent_too_old');
  const archive = await client.readArchive('/dir');
  expect(await codeOf(archive.toArray())).toBe('transfer_interrupted');
  expect(agent.received()).toContain('GET /files/archive?path=%2Fdir ');
});

const brokenArchive = (trailer: string) =>
  'HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n' +
  `Trailer: perch-error\r\n\r\n4\r\npart\r\n0\r\n${trailer}\r\n`;
const trailing = (value: unknown) => `perch-error: ${JSON.stringify(value)}\r\n`;

test.each<[string, string, object | undefined]>([
  ['nothing', '', undefined],
  [
    'why',
    trailing({ code: 500, message: 'EIO', reason: 'io', path: '/dir/x' }),
    { code: 'file_io_failed', details: { path: '/dir/x', problem: 'EIO' } },
  ],
  [
    'what a terminal obeys',
    trailing({ code: 403, message: '\u001b[2J', reason: 'denied', path: '/\u001b[2J' }),
    { code: 'permission_denied', message: '/\\u001b[2J may not be touched by this user.' },
  ],
  ['no object', trailing('EIO'), { code: 'file_io_failed', details: { path: '/dir' } }],
  ['no JSON', 'perch-error: {\r\n', { code: 'file_io_failed' }],
  ['it twice', trailing({ reason: 'io' }).repeat(2), { code: 'file_io_failed' }],
  ['a success', trailing({ code: 200, message: 'all is well' }), { code: 'file_io_failed' }],
  ['too much', trailing({ message: 'x'.repeat(20_000) }), { code: 'transfer_interrupted' }],
])('an archive whose trailer says %s is whole or an error', async (_, trailer, error) => {
  await using agent = await fakeAgent((socket) => socket.end(brokenArchive(trailer)));
  const archive = await clientOf(agent).readArchive('/dir');
  const read = archive.toArray().catch((reason: unknown) => reason);
  if (error) expect(await read).toMatchObject(error);
  else expect(Buffer.concat((await read) as Buffer[]).toString()).toBe('part');
  expect(agent.received()).toContain('te: trailers');
});

test('a guest that ignores its deadline is cut off', async () => {
  await using agent = await fakeAgent((socket) => {
    socket.write(streamAnswer(started));
    const timer = setInterval(() => socket.write(message({ event: { keepalive: {} } })), 100);
    socket.on('close', () => clearInterval(timer));
  });
  const process = await clientOf(agent, { graceMs: 200 }).start({ ...command, timeoutMs: 100 });
  expect(await collect(process.events)).toEqual([{ type: 'timeout', unanswered: true }]);
  expect(agent.received()).toContain('connect-timeout-ms: 100');
});

test.each<[string, (socket: Socket) => void]>([
  ['at all', () => {}],
  ['beyond the head', (socket) => socket.write(streamAnswer())],
])('a guest that does not answer %s is cut off when the time of the command is over', async (_, answer) => {
  await using agent = await fakeAgent(answer);
  const process = await clientOf(agent, { graceMs: 200 }).start({ ...command, timeoutMs: 100 });
  expect(process.pid).toBe(0);
  expect(await collect(process.events)).toEqual([{ type: 'timeout', unanswered: true }]);
});

test('closing the client ends what is under way', async () => {
  await using agent = await fakeAgent((socket) => socket.write(streamAnswer(started)));
  const client = clientOf(agent);
  const process = await client.start(command);
  setTimeout(() => void client.close(), 20);
  expect(await codeOf(collect(process.events))).toBe('guest_unavailable');
});

async function* stream(parts: string[]) {
  for (const part of parts) yield Buffer.from(part);
}
