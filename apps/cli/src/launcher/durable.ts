/** Files that must be whole after a power cut: a rename alone may outlive the bytes below the name. */
import { execFile } from 'node:child_process';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';

/** Puts a file in place whole or not at all. @param prepare of the file, before it has its name */
export async function writeDurably(
  path: string,
  text: string,
  mode: number,
  prepare: (file: FileHandle) => Promise<void> = async () => {},
): Promise<void> {
  const temporary = `${path}.new`;
  await rm(temporary, { force: true });
  {
    await using file = await open(temporary, 'wx', mode);
    await file.chmod(mode);
    await prepare(file);
    await file.writeFile(text);
    await file.sync();
  }
  await placeDurably(temporary, path);
}

/** Gives a folder its name once all below it is on the disk. */
export async function placeFolderDurably(temporary: string, path: string): Promise<void> {
  // The whole file system at once: an fsync of each of a thousand files takes longer.
  await promisify(execFile)('sync', ['--file-system', temporary]);
  await placeDurably(temporary, path);
}

async function placeDurably(temporary: string, path: string): Promise<void> {
  await rename(temporary, path);
  await using folder = await open(dirname(path));
  await folder.sync();
}
