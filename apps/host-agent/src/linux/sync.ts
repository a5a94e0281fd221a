import { constants } from 'node:fs';
import { open } from 'node:fs/promises';

/** fsync of a file or a directory. A descriptor for reading is enough, on files that are linked in as well. */
export async function sync(path: string): Promise<void> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  await file.sync();
}
