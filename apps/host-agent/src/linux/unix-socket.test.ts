import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connectWhenListening } from './unix-socket.ts';

/** Makes a socket's file, listens once it is told to, and greets who connects. */
const server = `
import socket, sys
it = socket.socket(socket.AF_UNIX)
it.bind(sys.argv[1])
print('bound', flush=True)
sys.stdin.readline()
it.listen()
it.accept()[0].send(b'welcome')
`;

async function bound() {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-socket-'));
  const path = join(dir.path, 's');
  const child = spawn('python3', ['-c', server, path], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return {
    path,
    listen: () => child.stdin.write('\n'),
    async [Symbol.asyncDispose]() {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
      await dir.remove();
    },
  };
}

test('a socket that is there before anybody listens is waited for', async () => {
  await using it = await bound();
  const refused = connectWhenListening(it.path, AbortSignal.abort(new Error('given up')));
  await expect(refused).rejects.toThrow('given up');
  const connecting = connectWhenListening(it.path, AbortSignal.timeout(30_000));
  const first = await Promise.race([connecting, new Promise((resolve) => setImmediate(resolve, 'waits'))]);
  expect(first).toBe('waits');
  it.listen();
  const socket = await connecting;
  expect(String((await once(socket, 'data'))[0])).toBe('welcome');
  socket.destroy();
});

test('one at which nobody ever listens is waited for as long as the caller says', async () => {
  await using it = await bound();
  const connecting = connectWhenListening(it.path, AbortSignal.timeout(20));
  await expect(connecting).rejects.toThrow(/aborted/);
  await expect(connectWhenListening('/dev/null/s', AbortSignal.timeout(30_000))).rejects.toThrow('ENOTDIR');
});
