/** Ends labs, and removes what they go on from. */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { states } from './state.ts';

/** Those of this cache only. @returns a sentence for the one who asked */
export async function takeDown(cache: string): Promise<string> {
  let ended = 0;
  for (const name of await readdir('/proc')) {
    const line = await readFile(`/proc/${name}/cmdline`, 'latin1').catch(() => '');
    if (!line.startsWith('qemu-system-x86_64\0') || !line.includes(`mem-path=${join(cache, states)}/`))
      continue;
    const runner = /^PPid:\s+(\d+)$/m.exec(await readFile(`/proc/${name}/status`, 'latin1').catch(() => ''));
    if (runner === null) continue;
    // Its lab goes with it.
    process.kill(Number(runner[1]), 'SIGKILL');
    ended++;
  }
  await rm(join(cache, states), { recursive: true, force: true });
  return `Ended ${ended} ${ended === 1 ? 'lab' : 'labs'}; the next run boots anew.`;
}
