import { readlink } from 'node:fs/promises';
import { basename } from 'node:path';
import { pids } from '@perch/node-kit';

/** The server processes that work in `dataDir`; a postmaster and its children all do. */
export async function serversOf(dataDir: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of pids()) {
    const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => undefined);
    if (cwd !== dataDir) continue;
    const exe = await readlink(`/proc/${pid}/exe`).catch(() => '');
    if (basename(exe).replace(/ \(deleted\)$/, '') === 'postgres') found.push(pid);
  }
  return found;
}
