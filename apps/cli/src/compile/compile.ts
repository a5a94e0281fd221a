/** Folders of compiled programs: complete when they have their name. */
import { chmod, chown, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hasCode, ifThere, sync } from '@perch/node-kit';
import type { BuildOptions } from 'esbuild';
import { cli } from './cli.ts';
import { daemons } from './daemons.ts';

/** Programs that are compiled together. */
export type Kind = 'cli' | 'daemons';

interface Place {
  /** The checkout. */
  root: string;
  folder: string;
}

const optionsOf: Record<Kind, (root: string) => BuildOptions> = { cli, daemons };
/** Of each kind: several states of a checkout are used in turn. */
const kept = 8;

let last: Promise<unknown> = Promise.resolve();

/** Compiles into a folder. @throws Error when the sources do not compile */
export function bundle(kind: Kind, place: Place): Promise<void> {
  // The service is one for the process: its end would leave another compilation without an answer.
  const next = last.then(() => compileAlone(kind, place));
  last = next.catch(() => {});
  return next;
}

async function compileAlone(kind: Kind, { root, folder }: Place): Promise<void> {
  const { build, stop } = await import('esbuild');
  await build({ ...optionsOf[kind](root), absWorkingDir: root, outdir: folder });
  // Its service would live as long as we do.
  await stop();
}

/**
 * Makes a folder of the checkout, which is its owner's and open to all.
 * @returns whether it is there: not where nobody may write to the checkout
 * @throws Error when the sources do not compile
 */
export async function compile(kind: Kind, { root, folder }: Place): Promise<boolean> {
  const dist = dirname(folder);
  const temporary = join(dist, `.${basename(folder)}.tmp-${process.pid}`);
  const { uid, gid } = await stat(root);
  try {
    for (const path of [dist, temporary]) {
      await mkdir(path, { recursive: true });
      await chmod(path, 0o755);
      if (process.getuid?.() === 0) await chown(path, uid, gid);
    }
  } catch (error) {
    if (hasCode(error, 'EACCES', 'EPERM', 'EROFS')) return false;
    throw error;
  }
  try {
    await bundle(kind, { root, folder: temporary });
    for (const file of await readdir(temporary)) {
      await chmod(join(temporary, file), 0o644);
      await sync(join(temporary, file));
    }
    await rename(temporary, folder);
  } catch (error) {
    // Another process was first.
    if (!hasCode(error, 'ENOTEMPTY', 'EEXIST')) throw error;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  await removeOld(kind, dist);
  return true;
}

async function removeOld(kind: Kind, dist: string): Promise<void> {
  const names = (await readdir(dist)).filter((name) => name.startsWith(`${kind}-`));
  const made = await Promise.all(
    // Another process may remove it meanwhile.
    names.map(async (name) => ({ name, at: (await ifThere(stat(join(dist, name))))?.mtimeMs ?? 0 })),
  );
  for (const { name } of made.sort((a, b) => b.at - a.at).slice(kept)) {
    await rm(join(dist, name), { recursive: true, force: true });
  }
}
