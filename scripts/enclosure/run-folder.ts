/** The temporary directory of a run, and control groups of the same name. A run that was left with all else that ran is the next one's to remove. */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { chmod, lstat, mkdir, mkdtemp, readdir, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openCgroups, tryLockFile } from '../../apps/host-agent/src/linux/index.ts';
import { ifThere, parseCgroupMounts } from '../../packages/node-kit/src/index.ts';

const prefix = 'perch-run-';
/** The kernel may take a moment to end what was killed. */
const endsWithinMs = 5000;

export class RunFolder implements AsyncDisposable {
  readonly path: string;
  /** A descriptor whose lock says that the run is under way, as long as a process has it open. */
  readonly lock: number;

  private constructor(path: string, lock: number) {
    this.path = path;
    this.lock = lock;
  }

  /** Makes one below the temporary directory. */
  static async take(): Promise<RunFolder> {
    for (;;) {
      const path = await mkdtemp(join(tmpdir(), prefix));
      const lock = tryLock(path);
      // A sweep that runs meanwhile may take it for one that was left.
      if (lock === undefined) continue;
      const folder = new RunFolder(path, lock);
      // Daemons that are not root work in it.
      await chmod(path, 0o1777);
      // A group hands on what was handed to it.
      await openCgroups();
      for (const { group } of folder.controlGroups) await mkdir(group);
      return folder;
    }
  }

  /** Removes those of runs that have ended. A folder that cannot be removed yet stays for the next sweep. */
  static async sweep(): Promise<void> {
    for (const name of await readdir(tmpdir())) {
      const path = join(tmpdir(), name);
      // Everybody may make such a name in a temporary directory.
      if (!name.startsWith(prefix) || !(await isOurs(path))) continue;
      const lock = tryLock(path);
      if (lock === undefined) continue;
      await new RunFolder(path, lock)[Symbol.asyncDispose]().catch((error: unknown) => {
        console.error(`${path} of an earlier run is not removed yet: ${error}`);
      });
    }
  }

  /** Its group in each hierarchy, and where that is mounted. */
  get controlGroups(): { group: string; mount: string }[] {
    const { v1, v2 } = parseCgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8'));
    const mounts = new Set([...Object.values(v1), ...(v2 === undefined ? [] : [v2])]);
    return [...mounts].map((mount) => ({ group: join(mount, basename(this.path)), mount }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      for (const { group } of this.controlGroups) await untilDone(() => removeGroups(group));
      await untilDone(() => rm(this.path, { recursive: true, force: true }));
    } finally {
      closeSync(this.lock);
    }
  }
}

/** @returns undefined when a run has it, or it is gone */
function tryLock(path: string): number | undefined {
  let lock: number;
  try {
    lock = openSync(join(path, 'lock'), 'a', 0o600);
  } catch {
    return undefined;
  }
  if (tryLockFile(lock) && fstatSync(lock).nlink > 0) return lock;
  closeSync(lock);
  return undefined;
}

async function isOurs(path: string): Promise<boolean> {
  const found = await lstat(path).catch(() => undefined);
  return found?.isDirectory() === true && found.uid === process.getuid?.();
}

async function removeGroups(group: string): Promise<void> {
  const entries = await readdir(group, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) if (entry.isDirectory()) await removeGroups(join(group, entry.name));
  await ifThere(rmdir(group));
}

/** Processes that were killed a moment ago may still be in a group, or write into a folder. */
async function untilDone(remove: () => Promise<void>): Promise<void> {
  for (const until = performance.now() + endsWithinMs; ; await sleep(20)) {
    try {
      await remove();
      return;
    } catch (error) {
      if (performance.now() > until) throw error;
    }
  }
}
