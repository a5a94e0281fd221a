import { once } from 'node:events';
import { mkdtempDisposable } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { remakeToolMs } from '@perch/protocol';
import { expect, test, vi } from 'vitest';
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

test('a call waits for all of the time that the host has to merge or convert the disk first', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-host-'));
  const server = createServer((_, response) => response.writeHead(500).end());
  server.listen(join(dir.path, 'host.sock'));
  await once(server, 'listening');
  await using host = new HostClient(join(dir.path, 'host.sock'));
  const waits = vi.spyOn(AbortSignal, 'timeout');
  const [id, generation, access_token, env] = ['sb000000000000000001', 1, 'a'.repeat(64), {}];
  const machine = { vcpus: 1, memory_mb: 128, disk_mb: 65_536 };
  const sandbox = { id, generation, memoryMb: 128, diskMb: 65_536 };
  const snapshot = { name: 'one', sandbox_id: id, generation, overwrite: false };
  const calls = {
    create: () => host.create(id, { generation, template: 'one', ...machine, access_token, env }),
    resume: () => host.resume(sandbox, { generation: 2, access_token }),
    fork: () => host.fork(sandbox, { generation, children: [{ id, access_token }] }),
    snapshot: () => host.snapshot(sandbox, snapshot),
    flatten: () => host.flattenSnapshot('one'),
    convert: () => host.convertSnapshot('one', { to: 'qcow2' }),
  };
  const short: string[] = [];
  for (const [name, call] of Object.entries(calls)) {
    await expect(call()).rejects.toMatchObject({ code: 'host_unavailable' });
    const waited = waits.mock.lastCall?.[0] ?? 0;
    if (waited <= remakeToolMs(65_536)) short.push(`${name}: ${waited}`);
  }
  waits.mockRestore();
  server.closeAllConnections();
  server.close();
  expect(short).toEqual([]);
});
