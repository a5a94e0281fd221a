import { readdir, readlink } from 'node:fs/promises';
import { basename } from 'node:path';

/** The server processes that work in `dataDir`; a postmaster and its children all do. */
export async function serversOf(dataDir: string): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const cwd = await readlink(`/proc/${entry}/cwd`).catch(() => undefined);
    if (cwd !== dataDir) continue;
    const exe = await readlink(`/proc/${entry}/exe`).catch(() => '');
    if (basename(exe).replace(/ \(deleted\)$/, '') === 'postgres') found.push(Number(entry));
  }
  return found;
}
