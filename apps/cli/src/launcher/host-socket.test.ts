import { once } from 'node:events';
import { mkdir, mkdtempDisposable } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { HostGone, HostSocket } from './host-socket.ts';

test.each(['at all', 'to its end'])(
  'a host agent that does not answer %s is not waited for for ever',
  async (how) => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-host-'));
    await mkdir(join(dir.path, 'run'));
    const server = createServer((_, response) => void (how === 'to its end' && response.write('{')));
    server.listen(join(dir.path, 'run/host.sock'));
    await once(server, 'listening');
    expect(await new HostSocket(dir.path, 50).answers()).toBe(false);
    server.closeAllConnections();
    server.close();
  },
);

test('a host agent that goes away before it answers is told from one that refuses', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-host-'));
  const host = new HostSocket(dir.path);
  await expect(host.sandboxes()).rejects.toThrow(HostGone);
  await mkdir(join(dir.path, 'run'));
  const server = createServer((request, response) => {
    if (request.url === '/v1/host') response.end('{}');
    else request.socket.destroy();
  });
  server.listen(join(dir.path, 'run/host.sock'));
  await once(server, 'listening');
  expect(await host.answers()).toBe(true);
  await expect(host.sandboxes()).rejects.toThrow(HostGone);
  server.closeAllConnections();
  server.close();
});
