/** Which process is which, by what /proc says; a pid alone may have been given to another. */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { basename } from 'node:path';

/**
 * Start time of a process in clock ticks since boot: with the pid, its identity. Undefined when there is none, or when
 * it has ended and waits to be reaped, for which its parent may take its time. Source: proc_pid_stat(5).
 */
export async function startTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  // The name in parentheses may hold spaces; the state, field 3, is the first after it.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, threads] = [fields?.[0], Number(fields?.[17])];
  // While other threads end, the first of them is a zombie already.
  const ended = state === 'X' || (state === 'Z' && threads <= 1);
  return ended ? undefined : fields?.[19];
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
