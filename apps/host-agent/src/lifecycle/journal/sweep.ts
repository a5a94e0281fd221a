/** Ends and removes what no journal entry owns: what a crash between two steps left. */
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { endProcess, processesOfUid } from '../../linux/index.ts';

/**
 * Every monitor has a directory, made before it and owned by its uid: an unowned directory leads to an
 * unowned monitor.
 * @returns ids of what was removed
 */
export async function sweepUnowned(vmsDir: string, owned: ReadonlySet<string>): Promise<string[]> {
  const swept: string[] = [];
  for (const id of await readdir(vmsDir)) {
    if (owned.has(id)) continue;
    await endUnowned(join(vmsDir, id));
    swept.push(id);
  }
  return swept;
}

/** Ends the processes of the user that a directory belongs to, and removes it. */
export async function endUnowned(dir: string): Promise<void> {
  const { uid } = await stat(dir);
  // A crash between making the directory and giving it away leaves it root's, with no monitor.
  if (uid !== 0) for (const process of processesOfUid(uid)) await endProcess(process);
  await rm(dir, { recursive: true, force: true });
}
