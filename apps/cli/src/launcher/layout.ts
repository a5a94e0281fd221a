/** The data directory: who owns what in it. */
import { execFile } from 'node:child_process';
import { chmod, chown, mkdir, readFile } from 'node:fs/promises';
import { dirname, isAbsolute } from 'node:path';
import { promisify } from 'node:util';
import { ifThere, type User, writeDurably } from '@perch/node-kit';
import { dataPaths, newInstance } from '@perch/protocol';
import { CliError } from '../errors.ts';

/** Longest path below the data directory that is a unix socket's: 107 bytes with a terminator to come. */
const socketRoom = 107 - '/host/vms/sb000000000000000000/qmp.sock'.length;

/**
 * Makes what is missing and sets owners and modes.
 * @returns the instance: a short id that every resource name of this data directory carries
 * @throws CliError when it cannot be one: sockets in it would have too long a path, or `perch` cannot enter it
 */
export async function ensureLayout(dataDir: string, perch: User): Promise<string> {
  if (!isAbsolute(dataDir)) {
    throw new CliError(
      `PERCH_DATA_DIR is ${dataDir}.`,
      'Write it from the root on: PERCH_DATA_DIR=/var/lib/perch.',
    );
  }
  if (Buffer.byteLength(dataDir) > socketRoom) {
    throw new CliError(
      `PERCH_DATA_DIR is ${dataDir}; unix sockets in it need a path of at most ${socketRoom} bytes.`,
      'Choose a shorter one, for example PERCH_DATA_DIR=/var/lib/perch.',
    );
  }
  const { run, bin, host, control, log } = dataPaths(dataDir);
  await folder(dataDir, 0o755, 0, 0);
  await requireEntry(dataDir, perch);
  await folder(run, 0o750, 0, perch.gid);
  await folder(bin, 0o755, 0, 0);
  await folder(host, 0o711, 0, 0);
  await folder(control, 0o700, perch.uid, perch.gid);
  await folder(log, 0o700, 0, 0);
  return ensureInstance(dataDir);
}

/** perchd runs as a user that needs its way to what is for it. */
async function requireEntry(dataDir: string, perch: User): Promise<void> {
  if (await mayEnter(dataDir, perch)) return;
  let closed = dataDir;
  while (closed !== '/' && !(await mayEnter(dirname(closed), perch))) closed = dirname(closed);
  throw new CliError(
    `The user ${perch.name} cannot enter ${closed}, where PERCH_DATA_DIR is.`,
    `Let it: chmod o+x ${closed}. Or choose another place, for example PERCH_DATA_DIR=/var/lib/perch.`,
  );
}

/** Asked as that user, since more than the mode may decide. @throws CliError when nothing can be asked as it */
async function mayEnter(path: string, { name, uid, gid }: User): Promise<boolean> {
  const user = [`--reuid=${uid}`, `--regid=${gid}`, '--init-groups'];
  try {
    await promisify(execFile)('setpriv', [...user, 'test', '-x', path]);
    return true;
  } catch (cause) {
    const { code, stderr = '', message } = cause as { code?: unknown; stderr?: string; message: string };
    // `test` says no in silence.
    if (code === 1 && stderr === '') return false;
    throw new CliError(
      `Nothing can be run as the user ${name}: ${stderr.trim() || message}`,
      'Perch needs a root that may become other users, on the machine itself or in a virtual machine.',
      { cause },
    );
  }
}

async function folder(path: string, mode: number, uid: number, gid: number): Promise<void> {
  const first = await mkdir(path, { recursive: true });
  // Those above it that were missing: others have to get through, whatever the umask is.
  if (first) for (let at = dirname(path); at.startsWith(first); at = dirname(at)) await chmod(at, 0o755);
  await chown(path, uid, gid);
  await chmod(path, mode);
}

async function ensureInstance(dataDir: string): Promise<string> {
  const known = await readInstance(dataDir);
  if (known) return known;
  const instance = newInstance();
  await writeDurably(dataPaths(dataDir).instance, `${instance}\n`, { mode: 0o644 });
  return instance;
}

/** Undefined when no Perch has started here. */
export async function readInstance(dataDir: string): Promise<string | undefined> {
  return (await ifThere(readFile(dataPaths(dataDir).instance, 'utf8')))?.trim();
}
