/**
 * A network of addresses that guests may not reach, each with a TCP server on port 80: a namespace to which
 * this machine has a route for each.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { run } from './machine.ts';

/** Private, link-local, shared and metadata addresses. */
export const closedAddresses = ['10.99.0.7', '172.16.5.7', '192.168.5.7', '100.64.0.7', '169.254.169.254'];

export async function startClosedNet(): Promise<AsyncDisposable> {
  const namespace = `perch-test-closed-${randomBytes(4).toString('hex')}`;
  const [here, there] = ['192.0.2.9', '192.0.2.10'];
  const inside = (...args: string[]) => run('ip', ['-n', namespace, ...args]);
  await run('ip', ['netns', 'add', namespace]);
  await run('ip', ['link', 'add', 'testclosed0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace]);
  await run('ip', ['addr', 'add', `${here}/30`, 'dev', 'testclosed0']);
  await run('ip', ['link', 'set', 'testclosed0', 'up']);
  await inside('addr', 'add', `${there}/30`, 'dev', 'eth0');
  await inside('link', 'set', 'eth0', 'up');
  await inside('link', 'set', 'lo', 'up');
  // Answers to guests would find their way, too.
  await inside('route', 'add', 'default', 'via', here);
  for (const address of closedAddresses) {
    await inside('addr', 'add', `${address}/32`, 'dev', 'lo');
    await run('ip', ['route', 'add', `${address}/32`, 'via', there]);
  }
  const server = spawn('ip', ['netns', 'exec', namespace, process.execPath, '-e', serve], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(server.stdout, 'data');
  return {
    async [Symbol.asyncDispose]() {
      const gone = once(server, 'exit');
      server.kill('SIGKILL');
      await gone;
      await run('ip', ['netns', 'del', namespace]);
    },
  };
}

const serve = `require('node:http').createServer((_, answer) => answer.end('closed'))
  .listen(80, '0.0.0.0', () => console.log('ready'))`;
