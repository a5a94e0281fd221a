import { once } from 'node:events';
import { mkdtempDisposable } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { HostSocket } from './socket.ts';

class Gone extends Error {}
const gone = () => new Gone();

test.each(['at all', 'to its end'])(
  'a host agent that does not answer %s is not waited for for ever',
  async (how) => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-host-'));
    const server = createServer((_, response) => void (how === 'to its end' && response.write('{')));
    const path = join(dir.path, 'host.sock');
    server.listen(path);
    await once(server, 'listening');
    expect(await new HostSocket({ path, gone, infoMs: 50 }).answers()).toBe(false);
    server.closeAllConnections();
    server.close();
  },
);

test('a host agent that goes away before it answers is told from one that refuses', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-host-'));
  const path = join(dir.path, 'host.sock');
  const host = new HostSocket({ path, gone });
  await expect(host.sandboxes()).rejects.toThrow(Gone);
  const server = createServer((request, response) => {
    if (request.url === '/v1/host') response.end('{}');
    else request.socket.destroy();
  });
  server.listen(path);
  await once(server, 'listening');
  expect(await host.answers()).toBe(true);
  await expect(host.sandboxes()).rejects.toThrow(Gone);
  server.closeAllConnections();
  server.close();
});
