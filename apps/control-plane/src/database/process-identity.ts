/** Which process is which, by what /proc says; a pid alone may have been given to another. */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { basename } from 'node:path';

/** Start time of a process in clock ticks since boot: with the pid, its identity. */
export async function startTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  // The name in parentheses may hold spaces; field 22 is the 20th after it.
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

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
