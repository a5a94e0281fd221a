import { once } from 'node:events';
import { closeSync, lstatSync } from 'node:fs';
import { mkdtempDisposable, open } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { listenAt } from './unix-listener.ts';

test('a socket can be connected to before anybody accepts, however deep it lies; its name is taken once', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), `perch-${'x'.repeat(90)}-`));
  const uid = process.getuid?.() ?? 0;
  const fd = listenAt(dir.path, 'a.sock', uid);
  expect(lstatSync(join(dir.path, 'a.sock'))).toMatchObject({ uid });
  await using opened = await open(dir.path);
  const client = connect(`/proc/self/fd/${opened.fd}/a.sock`);
  await once(client, 'connect');
  client.destroy();
  expect(() => listenAt(dir.path, 'a.sock', uid)).toThrow('EADDRINUSE');
  closeSync(fd);
});
