/** The data directory: who owns what in it. */
import { randomInt } from 'node:crypto';
import { chmod, chown, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { dataPaths } from '@perch/protocol';
import { writeDurably } from './durable.ts';
import type { User } from './user.ts';

const alphabet = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** Longest path below the data directory that is a unix socket's: 107 bytes with a terminator to come. */
const socketRoom = 107 - '/host/vms/sb000000000000000000/qmp.sock'.length;

/**
 * Makes what is missing and sets owners and modes.
 * @returns the instance: a short id that every resource name of this data directory carries
 * @throws CliError when sockets in it would have too long a path
 */
export async function ensureLayout(dataDir: string, perch: User): Promise<string> {
  if (Buffer.byteLength(dataDir) > socketRoom) {
    throw new Error(
      `PERCH_DATA_DIR is ${dataDir}; unix sockets in it need a path of at most ${socketRoom} bytes.`,
    );
  }
  const { run, bin, host, control, log } = dataPaths(dataDir);
  await folder(dataDir, 0o755, 0, 0);
  await folder(run, 0o750, 0, perch.gid);
  await folder(bin, 0o755, 0, 0);
  await folder(host, 0o711, 0, 0);
  await folder(control, 0o700, perch.uid, perch.gid);
  await folder(log, 0o700, 0, 0);
  return ensureInstance(dataDir);
}

async function folder(path: string, mode: number, uid: number, gid: number): Promise<void> {
  await mkdir(path, { recursive: true });
  await chown(path, uid, gid);
  await chmod(path, mode);
}

async function ensureInstance(dataDir: string): Promise<string> {
  const known = await readInstance(dataDir);
  if (known) return known;
  let instance = '';
  for (let i = 0; i < 6; i++) instance += alphabet[randomInt(alphabet.length)];
  await writeDurably(instanceFile(dataDir), `${instance}\n`, 0o644);
  return instance;
}

function instanceFile(dataDir: string): string {
  return join(dataDir, 'instance');
}

/** Undefined when no Perch has started here. */
export async function readInstance(dataDir: string): Promise<string | undefined> {
  try {
    return (await readFile(instanceFile(dataDir), 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
