/** Brings this checkout into a lab: what git tracks, and what it would, as it lies here. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { GuestClient } from '../packages/guest-client/src/index.ts';
import { runInLab } from './command.ts';

export const labRoot = '/perch';

export async function bringCheckout(agent: GuestClient, root: string): Promise<void> {
  const list = spawn('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    ...{ cwd: root, stdio: ['ignore', 'pipe', 'inherit'] },
  });
  // A file that is deleted and not committed is listed, and not there.
  const tar = spawn('tar', ['-c', '--null', '--ignore-failed-read', '-T', '-'], {
    ...{ cwd: root, stdio: ['pipe', 'pipe', 'ignore'] },
  });
  list.stdout.pipe(tar.stdin);
  const ended = [once(list, 'exit'), once(tar, 'exit')];
  await agent.writeFile('/perch.tar', tar.stdout);
  const [listed, packed] = (await Promise.all(ended)) as [[number], [number]];
  if (listed[0] !== 0) throw new Error('git could not list the files of the checkout.');
  if (packed[0] > 1) throw new Error('tar could not pack the checkout.');
  await runInLab(agent, 'tar', ['-x', '-C', labRoot, '-f', '/perch.tar']);
  await runInLab(agent, 'rm', ['/perch.tar']);
}
