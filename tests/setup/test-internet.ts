/**
 * An internet that ends on this machine: a namespace with a public test address (RFC 5737), a web server and
 * a DNS responder. It must stand in a network namespace without a way out, where `npm test` runs.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { promisify } from 'node:util';

/** The one host of this internet: TCP 80 answers `hello from the internet`. */
export const testHost = '198.51.100.7';
export const testResolver = '198.51.100.53';
/** The one name that the resolver knows; it is `testHost`. */
export const testName = 'internet.test';
/** This machine's address towards it. Networks on a link of the machine are closed to guests: it is a hop further. */
export const uplinkAddress = '192.0.2.1';
const routerAddress = '192.0.2.2';

const run = promisify(execFile);
/** Namespaces of this machine share one list of names; two runs at once must not share one. */
const namespace = `perch-test-internet-${randomBytes(4).toString('hex')}`;

export async function startTestInternet(): Promise<AsyncDisposable> {
  const { stdout } = await run('ip', ['route', 'show', 'default']);
  if (stdout.trim() !== '')
    throw new Error('There is a way out of this machine. Run the suites with `npm test`.');
  await run('ip', ['netns', 'add', namespace]);
  await run('ip', ['link', 'add', 'testnet0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace]);
  await run('ip', ['addr', 'add', `${uplinkAddress}/30`, 'dev', 'testnet0']);
  await run('ip', ['link', 'set', 'testnet0', 'up']);
  await run('ip', ['-n', namespace, 'addr', 'add', `${routerAddress}/30`, 'dev', 'eth0']);
  await run('ip', ['-n', namespace, 'link', 'set', 'eth0', 'up']);
  await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
  for (const address of [testHost, testResolver]) {
    await run('ip', ['-n', namespace, 'addr', 'add', `${address}/32`, 'dev', 'lo']);
    await run('ip', ['route', 'add', `${address}/32`, 'via', routerAddress]);
  }
  const server = spawn(
    'ip',
    ['netns', 'exec', namespace, process.execPath, `${import.meta.dirname}/test-internet-server.ts`],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await once(server.stdout, 'data');
  return { [Symbol.asyncDispose]: () => stop(server) };
}

async function stop(server: ChildProcess): Promise<void> {
  const gone = once(server, 'exit');
  server.kill('SIGKILL');
  await gone;
  await removeNamespace();
}

/** Its end of the veth goes with it. */
async function removeNamespace(): Promise<void> {
  await run('ip', ['netns', 'del', namespace]);
}
