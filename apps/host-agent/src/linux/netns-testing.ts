/** For tests that send packets: a network of their own, which has no way out. */
import { isMainThread } from 'node:worker_threads';
import { run } from '@perch/node-kit';
import koffi from 'koffi';
import { ipJson } from './netns.ts';

const unshare = koffi.load('libc.so.6').func('int unshare(int flags)');
const CLONE_NEWNET = 0x40000000;

/**
 * Moves the main thread, and so all sockets and children that this process makes from now on, into a new
 * network namespace that has nothing but its loopback. There is no way back; the namespace ends with the
 * process. Made for a test process that runs one test file.
 * @throws when this is not root, or the network has a way out after all
 */
export async function enterPrivateNetwork(): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('This test makes network namespaces: run it as root.');
  if (!isMainThread) throw new Error('This test needs a process of its own: vitest --pool=forks');
  if (unshare(CLONE_NEWNET) !== 0) throw new Error('unshare of the network failed');
  const links = await ipJson<{ ifname: string; flags: string[] }>(['link', 'show']);
  const routes = await ipJson(['route', 'show', 'table', 'all']);
  const open = links.filter(({ flags }) => flags.includes('UP'));
  if (open.length > 0 || routes.length > 0) throw new Error('the new network namespace is not empty');
  await run('ip', ['link', 'set', 'lo', 'up']);
}
