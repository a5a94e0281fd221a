/** Files of this machine whose times the disk of a sandbox has not: tar in the sandbox gives them the nearest without a word. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { diskTimes } from './attributes.ts';

const at = (seconds: number) => new Date(seconds * 1000).toISOString();

/** All in the directory, and it; none where there is no such `find`. Ends at the signal. */
export async function* beyondTimes(directory: string, signal: AbortSignal): AsyncGenerator<string> {
  const newer = (seconds: number) => ['-newermt', at(seconds)];
  const beyond = ['(', ...newer(diskTimes.last), '-o', '!', ...newer(diskTimes.first - 1), ')'];
  const find = spawn('find', [resolve(directory), ...beyond, '-print0'], {
    ...{ stdio: ['ignore', 'pipe', 'ignore'], signal },
  });
  const over = once(find, 'close').catch(() => {});
  let rest = '';
  try {
    for await (const chunk of find.stdout.setEncoding('utf8')) {
      const paths = (rest + chunk).split('\0');
      rest = paths.pop() ?? '';
      yield* paths;
    }
  } finally {
    find.kill();
    await over;
  }
}
