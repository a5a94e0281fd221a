/** The files of a sandbox are linked and renamed from folder to folder, which no two file systems can. */
import { stat } from 'node:fs/promises';
import { ifThere } from '@perch/node-kit';

/**
 * @param folders those that are not there yet are made within `dataDir`
 * @throws Error for the operator, when one of them is mounted from elsewhere
 */
export async function requireOneFileSystem(dataDir: string, folders: readonly string[]): Promise<void> {
  const { dev } = await stat(dataDir);
  for (const folder of folders) {
    const found = await ifThere(stat(folder));
    if (found && found.dev !== dev) {
      throw new Error(
        `${folder} is on another file system than ${dataDir}. Sandboxes are hard links: mount all of the data directory as one.`,
      );
    }
  }
}
