import { once } from 'node:events';
import { mkdtempDisposable } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { HostClient } from './client.ts';

test('a destroy and a look wait for no start, however many are under way', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-host-'));
  let starts = 0;
  const server = createServer((request, response) => {
    if (request.method === 'PUT') starts += 1;
    else if (request.method === 'DELETE') response.writeHead(204).end();
    else response.end(JSON.stringify({ items: [] }));
  });
  server.listen(join(dir.path, 'host.sock'));
  await once(server, 'listening');
  const host = new HostClient(join(dir.path, 'host.sock'));
  const id = (n: number) => `sb${`${n}`.padStart(18, '0')}`;
  const body = { generation: 1, template: 'base', vcpus: 1, memory_mb: 128, disk_mb: 64 };
  const creates = Array.from({ length: 100 }, (_, n) =>
    host.create(id(n), { ...body, access_token: 'a'.repeat(64), env: {} }).catch(() => {}),
  );
  await expect.poll(() => starts).toBe(64);
  expect(await host.list()).toEqual([]);
  await host.destroy(id(1));
  await host.close();
  await Promise.all(creates);
  server.closeAllConnections();
  server.close();
});
