import { getEventListeners } from 'node:events';
import { PerchError } from '@perch/protocol';
import { expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { ConnectionError, Perch } from './index.ts';
import { fakeServer, json } from './testing/fake-server.ts';
import { fakeSockets, send } from './testing/fake-sockets.ts';

const failure = new PerchError('events_lost', 'Changes came too fast.', { path: '/d' }).toBody();

test('changes come in order, until the watch ends with its error', async () => {
  await using server = await fakeSockets((socket, url) => {
    expect(url).toBe('/v1/sandboxes/sb0/files/watch?path=%2Fd+%C3%BC&recursive=true');
    send(socket, { type: 'start' }, { type: 'create', name: 'a' }, { type: 'write', name: 'b/c' });
    send(socket, { type: 'error', ...failure });
  });
  const seen: unknown[] = [];
  const watch = await server.perch.sandboxes.files.watch('sb0', '/d ü', { recursive: true });
  const all = async () => {
    for await (const { type, name } of watch) seen.push([type, name]);
  };
  await expect(all()).rejects.toMatchObject({ code: 'events_lost' });
  expect(seen).toEqual([
    ['create', 'a'],
    ['write', 'b/c'],
  ]);
});

test('a watch that cannot begin says why', async () => {
  await using server = await fakeSockets((socket) => send(socket, { type: 'error', ...failure }));
  await expect(server.perch.sandboxes.files.watch('sb0', '/d')).rejects.toMatchObject({
    code: 'events_lost',
  });
  await using refusing = await fakeServer((_request, response) => json(response, 404, {}));
  refusing.server.on('upgrade', (_request, socket) => {
    const { error } = new PerchError('sandbox_not_found', 'There is none.', { id: 'sb0' }).toBody();
    const body = JSON.stringify({ error });
    socket.end(
      `HTTP/1.1 404 Not Found\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    );
  });
  const { files } = new Perch({ url: refusing.url, apiKey: 'perch_x' }).sandboxes;
  await expect(files.watch('sb0', '/d')).rejects.toMatchObject({ code: 'sandbox_not_found' });
});

test('leaving the iteration, closing and the signal each end the watch', async () => {
  for (const how of ['leave', 'close', 'signal', 'using'] as const) {
    await using server = await fakeSockets((socket) =>
      send(socket, { type: 'start' }, { type: 'chmod', name: '.' }),
    );
    const abort = new AbortController();
    const watch = await server.perch.sandboxes.files.watch('sb0', '/d', { signal: abort.signal });
    if (how === 'leave') for await (const _ of watch) break;
    if (how === 'close') watch.close();
    if (how === 'using') await watch[Symbol.asyncDispose]();
    if (how === 'signal') {
      const waiting = (async () => {
        for await (const _ of watch);
      })();
      abort.abort(new Error('enough'));
      await expect(waiting).rejects.toThrow('enough');
    }
    await server.closed;
  }
});

test('a signal ends a watch that is still being opened, and keeps nothing of one that has ended', async () => {
  await using slow = await fakeServer((_request, response) => json(response, 404, {}));
  const abort = new AbortController();
  const sockets = new WebSocketServer({
    server: slow.server,
    verifyClient: (_info, accept) => {
      abort.abort(new Error('enough'));
      accept(true);
    },
  });
  const closed = new Promise<void>((resolve) => {
    sockets.on('connection', (socket) => {
      socket.on('close', () => resolve());
      send(socket, { type: 'start' });
    });
  });
  const { files } = new Perch({ url: slow.url, apiKey: 'perch_x' }).sandboxes;
  await expect(files.watch('sb0', '/d', { signal: abort.signal })).rejects.toThrow('enough');
  await closed;
  sockets.close();

  await using server = await fakeSockets((socket) => {
    send(socket, { type: 'start' });
    setImmediate(() => socket.terminate());
  });
  const { signal } = new AbortController();
  const watch = await server.perch.sandboxes.files.watch('sb0', '/d', { signal });
  await expect(watch[Symbol.asyncIterator]().next()).rejects.toBeInstanceOf(ConnectionError);
  expect(getEventListeners(signal, 'abort')).toEqual([]);
});

test('a connection that breaks is told', async () => {
  await using server = await fakeSockets((socket) => {
    send(socket, { type: 'start' });
    setImmediate(() => socket.terminate());
  });
  const watch = await server.perch.sandboxes.files.watch('sb0', '/d');
  const all = async () => {
    for await (const _ of watch);
  };
  await expect(all()).rejects.toBeInstanceOf(ConnectionError);
});
