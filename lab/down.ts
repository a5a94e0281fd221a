/** Ends labs, and removes what they go on from. */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { states } from './state.ts';

/** @returns a sentence for the one who asked */
export async function takeDown(cache: string): Promise<string> {
  let ended = 0;
  for (const name of await readdir('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    const line = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '');
    if (!/^perch-lab\0*$/.test(line)) continue;
    // Its lab goes with it.
    process.kill(pid, 'SIGKILL');
    ended++;
  }
  await rm(join(cache, states), { recursive: true, force: true });
  return `Ended ${ended} ${ended === 1 ? 'lab' : 'labs'}; the next run boots anew.`;
}
