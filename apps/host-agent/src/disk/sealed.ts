/** Files of states: root's, 0444, never written again. */
import { constants } from 'node:fs';
import { type FileHandle, link, lstat, open, stat, unlink } from 'node:fs/promises';
import { ifThere } from '@perch/node-kit';

/** Makes it root's, never to be written again. Safe to repeat. */
export async function seal(path: string): Promise<void> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  await sealOpen(file);
}

/** The same of one that another user has written, in a directory where that user could change names. */
export async function sealMade(file: FileHandle, path: string): Promise<void> {
  const [made, found] = [await file.stat(), await lstat(path)];
  if (found.ino !== made.ino || made.nlink !== 1) throw new Error(`${path} is not the file that was made`);
  await sealOpen(file);
}

/** The same of one that nobody else could reach. */
export async function sealOpen(file: FileHandle): Promise<void> {
  await file.chown(0, 0);
  await file.chmod(0o444);
  await file.sync();
}

export async function unlinkIfThere(path: string): Promise<void> {
  await ifThere(unlink(path));
}

/** @throws Error for a file whose guest could write it, or that guests could not read: it is no part of a state */
export async function assertSealed(path: string): Promise<void> {
  const { mode } = await stat(path);
  if ((mode & 0o777) === 0o444) return;
  throw new Error(`${path}, below other layers, has mode ${(mode & 0o777).toString(8)}, not 444`);
}

/** Gives a file that was opened at `path`, where another user can change names, a second name. */
export async function linkOpen(file: FileHandle, path: string, target: string): Promise<void> {
  const { ino } = await file.stat();
  await link(path, target);
  if ((await lstat(target)).ino === ino) return;
  await unlink(target);
  throw new Error('The copy-on-write layer was changed for another file');
}
