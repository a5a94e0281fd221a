import { once } from 'node:events';
import { mkdir, mkdtempDisposable } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { claim, isUp, send } from './control-socket.ts';

test('what is no command ends its connection and nothing else', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-up-'));
  await mkdir(join(dir.path, 'run'));
  const server = await claim(dir.path, async ({ remove }) => ({ ok: true, removed: remove }));
  for (const words of ['no JSON\n', `"${'x'.repeat(10_000)}`]) {
    const socket = createConnection(join(dir.path, 'run/up.sock'));
    socket.on('error', () => {});
    socket.end(words);
    socket.resume();
    await once(socket, 'close');
  }
  expect(await isUp(dir.path)).toBe(true);
  expect(await send(dir.path, { command: 'stop', remove: true })).toEqual({ ok: true, removed: true });
  server?.close();
});
