import { PerchError } from '@perch/protocol';
import { expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { ConnectionError, type ExecStream, Perch } from '../index.ts';
import { fakeServer } from '../testing/fake-server.ts';
import { fakeSockets, send } from '../testing/fake-sockets.ts';

/** A server of exec/stream; `serve` gets each message. */
function execServer(serve: (message: { type: string; [key: string]: unknown }, socket: WebSocket) => void) {
  return fakeSockets((socket) => {
    socket.on('message', (data: Buffer, isBinary) =>
      serve(isBinary ? { type: 'binary', bytes: [...data] } : JSON.parse(data.toString()), socket),
    );
  });
}

async function eventsOf(stream: ExecStream) {
  const events: unknown[] = [];
  for await (const event of stream) {
    events.push(event.type === 'exit' ? event.exit_code : [event.type, event.text ?? [...event.data]]);
  }
  if (events.at(-1) !== (await stream.exit)) throw new Error('the exit codes differ');
  return events;
}

test('output comes as text, or as bytes where it is none, and the exit code last', async () => {
  await using server = await execServer((message, socket) => {
    expect(message).toEqual({ type: 'start', cmd: 'x', args: ['y'], binary: true });
    send(
      socket,
      { type: 'start', pid: 5 },
      { type: 'stdout', data: 'ä' },
      { type: 'stderr', data_base64: '/wA=' },
      { type: 'exit', exit_code: 3 },
    );
    socket.close();
  });
  const stream = await server.perch.sandboxes.execStream('sb0', { cmd: 'x', args: ['y'] });
  expect(stream.pid).toBe(5);
  expect(await eventsOf(stream)).toEqual([['stdout', 'ä'], ['stderr', [255, 0]], 3]);
});

test('binary output is text where it can be, with a byte order mark as it came', async () => {
  await using server = await execServer((_message, socket) => {
    send(socket, { type: 'start', pid: 5 });
    for (const bytes of [[1, ...Buffer.from('\ufeffä')], [2, 255, 0], [1]]) socket.send(Buffer.from(bytes));
    send(socket, { type: 'exit', exit_code: 3 });
  });
  const stream = await server.perch.sandboxes.execStream('sb0', { cmd: 'x' });
  expect(await eventsOf(stream)).toEqual([['stdout', '\ufeffä'], ['stderr', [255, 0]], ['stdout', ''], 3]);
});

test('output of a stream that there is not is an error', async () => {
  await using server = await execServer((_message, socket) => {
    send(socket, { type: 'start', pid: 5 });
    socket.send(Buffer.from([7, 1]));
  });
  const stream = await server.perch.sandboxes.execStream('sb0', { cmd: 'x' });
  await expect(eventsOf(stream)).rejects.toThrow('cannot be read');
});

test('input, its end and signals go the other way', async () => {
  const received: unknown[] = [];
  await using server = await execServer((message, socket) => {
    if (message.type === 'start') return send(socket, { type: 'start', pid: 5 });
    received.push(message);
    if (message.type === 'stop') send(socket, { type: 'exit', exit_code: 137 });
  });
  const stream = await server.perch.sandboxes.execStream('sb0', { cmd: 'x', stdin: true });
  await stream.write('text');
  await stream.write(new Uint8Array([0, 255]));
  await stream.signal('SIGINT');
  await stream.closeStdin();
  await stream.stop();
  expect(await eventsOf(stream)).toEqual([137]);
  expect(received).toEqual([
    { type: 'binary', bytes: [0, ...Buffer.from('text')] },
    { type: 'binary', bytes: [0, 0, 255] },
    { type: 'signal', signal: 'SIGINT' },
    { type: 'stdin_close' },
    { type: 'stop' },
  ]);
  await stream.write('late');
});

test('an error before the start, or after it, is thrown with its code', async () => {
  const body = new PerchError('exec_timeout', 'Too long.', {} as never).toBody();
  await using server = await execServer((message, socket) => {
    if (message.cmd === 'late') send(socket, { type: 'start', pid: 5 }, { type: 'stdout', data: 'x' });
    send(socket, { type: 'error', ...body });
  });
  await expect(server.perch.sandboxes.execStream('sb0', { cmd: 'x' })).rejects.toMatchObject({
    code: 'exec_timeout',
  });
  const stream = await server.perch.sandboxes.execStream('sb0', { cmd: 'late' });
  await expect(eventsOf(stream)).rejects.toMatchObject({ code: 'exec_timeout' });
  await expect(stream.exit).rejects.toMatchObject({ code: 'exec_timeout' });
});

test('a connection that ends without an exit code is an error, not an end', async () => {
  await using server = await execServer((_message, socket) => {
    send(socket, { type: 'start', pid: 5 }, { type: 'stdout', data: 'x' });
    setTimeout(() => socket.terminate(), 20);
  });
  const stream = await server.perch.sandboxes.execStream('sb0', { cmd: 'x' });
  await expect(eventsOf(stream)).rejects.toBeInstanceOf(ConnectionError);
});

test('leaving the events closes the connection', async () => {
  await using server = await execServer((_message, socket) => {
    send(socket, { type: 'start', pid: 5 }, { type: 'stdout', data: 'x' });
  });
  const stream = await server.perch.sandboxes.execStream('sb0', { cmd: 'x' });
  for await (const _ of stream) break;
  await server.closed;
});

test('a cancelled stream ends with the reason', async () => {
  await using server = await execServer((_message, socket) => send(socket, { type: 'start', pid: 5 }));
  const cancel = new AbortController();
  const stream = await server.perch.sandboxes.execStream('sb0', { cmd: 'x' }, { signal: cancel.signal });
  setTimeout(() => cancel.abort(new Error('enough')), 20);
  await expect(eventsOf(stream)).rejects.toThrow('enough');
  await server.closed;
});

test('a reader that is slow holds the server back', async () => {
  const total = 20_000;
  let sent = 0;
  await using server = await execServer((_message, socket) => {
    send(socket, { type: 'start', pid: 5 });
    const more = () => {
      if (sent === total) return send(socket, { type: 'exit', exit_code: 0 });
      sent++;
      socket.send(JSON.stringify({ type: 'stdout', data: 'x'.repeat(1000) }), more);
    };
    more();
  });
  const stream = await server.perch.sandboxes.execStream('sb0', { cmd: 'x' });
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(sent).toBeLessThan(total);
  expect(await eventsOf(stream)).toHaveLength(total + 1);
});

test("a refused connection is the server's error", async () => {
  await using server = await fakeServer(() => {});
  server.server.on('upgrade', (_request, socket) => {
    const body = JSON.stringify(new PerchError('sandbox_not_found', 'No.', { id: 'sb0' }).toBody());
    socket.end(`HTTP/1.1 404 Not Found\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  });
  const { sandboxes } = new Perch({ url: server.url, apiKey: 'perch_x' });
  await expect(sandboxes.execStream('sb0', { cmd: 'x' })).rejects.toMatchObject({
    code: 'sandbox_not_found',
  });
});

test('a reader that is slow still shows that it lives', async () => {
  const { promise: alive, resolve } = Promise.withResolvers<void>();
  await using server = await execServer((_message, socket) => {
    socket.on('pong', () => resolve());
    send(socket, { type: 'start', pid: 5 });
    for (let i = 0; i < 1000; i++) send(socket, { type: 'stdout', data: 'x' });
  });
  await using _ = await server.perch.sandboxes.execStream('sb0', { cmd: 'x' });
  await alive;
});

// Well within the 30 s for which a client waits for the server's half of the closing handshake.
test('a stream that nobody reads is closed at once', { timeout: 15_000 }, async () => {
  await using server = await execServer((_message, socket) => {
    send(socket, { type: 'start', pid: 5 });
    for (let i = 0; i < 20_000; i++) send(socket, { type: 'stdout', data: 'x'.repeat(1000) });
  });
  const stream = await server.perch.sandboxes.execStream('sb0', { cmd: 'x' });
  await new Promise((resolve) => setTimeout(resolve, 300));
  await stream[Symbol.asyncDispose]();
  await server.closed;
});
