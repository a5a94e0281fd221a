/** The view of a process in a jail, told by /proc alone. */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

export interface JailView {
  /** By its path, all that lies in it: its kind, mode, and whether it belongs to the process's user or to root. */
  files: Record<string, string>;
  /** Places of the mounts that it has. */
  mounts: string[];
  /** Paths of what it has open. */
  open: string[];
}

export function viewOf(pid: number): JailView {
  const uid = Number(/^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  const mounts = readFileSync(`/proc/${pid}/mountinfo`, 'utf8').trim().split('\n');
  const open = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
  return {
    files: below(`/proc/${pid}/root`, uid),
    mounts: mounts.map((line) => line.split(' ')[4] ?? ''),
    open: open.filter((path) => path.startsWith('/')).sort(),
  };
}

function below(root: string, uid: number, at = ''): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(join(root, at))) {
    const path = join(at, name);
    const stat = lstatSync(join(root, path));
    const kinds = {
      directory: stat.isDirectory(),
      file: stat.isFile(),
      socket: stat.isSocket(),
      block: stat.isBlockDevice(),
      char: stat.isCharacterDevice(),
    };
    const kind = Object.entries(kinds).find(([, is]) => is)?.[0] ?? 'other';
    const owner = stat.uid === uid ? 'own' : stat.uid === 0 ? 'root' : 'other';
    found[path] = `${kind} ${(stat.mode & 0o7777).toString(8)} ${owner}`;
    if (stat.isDirectory()) Object.assign(found, below(root, uid, path));
  }
  return found;
}
