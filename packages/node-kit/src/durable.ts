/** Files that must be whole after a power cut: a rename alone may outlive the bytes below the name. */
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface DurableFile {
  /** Whatever the umask is; default 0600. */
  mode?: number;
  /** Done to the file before it has its name, such as a change of its owner. */
  prepare?: (file: FileHandle) => Promise<void>;
}

/** Puts a file in place whole or not at all. Until then its content is in `{path}.new`. */
export async function writeDurably(
  path: string,
  content: string | Uint8Array,
  { mode = 0o600, prepare }: DurableFile = {},
): Promise<void> {
  const temporary = `${path}.new`;
  await rm(temporary, { force: true });
  {
    // A link that another user has put there meanwhile is not written through.
    await using file = await open(temporary, 'wx', mode);
    await file.chmod(mode);
    await prepare?.(file);
    await file.writeFile(content);
    await file.sync();
  }
  await placeDurably(temporary, path);
}

/** Gives a file or a directory its name. All of it is on the disk already. */
export async function placeDurably(temporary: string, path: string): Promise<void> {
  await rename(temporary, path);
  // Which may be reached by a link.
  await using directory = await open(dirname(path));
  await directory.sync();
}

/** fsync of a file or a directory. A descriptor for reading is enough, on files that are linked in as well. */
export async function sync(path: string): Promise<void> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  await file.sync();
}
