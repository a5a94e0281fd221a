/** The pages of a difference, as Firecracker writes them: a sparse file of the size of the memory. */
import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { dataRuns } from '../../linux/index.ts';
import type { MemoryDifference } from '../../snapshot/index.ts';

const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** It can be read until it is disposed of. */
export interface OpenDifference extends AsyncDisposable {
  memory: MemoryDifference;
}

/**
 * Opens the file and takes its name away, so that nothing is left of it whatever ends. Its runs are found once, before
 * anybody has read it: pages that are read count as data from then on.
 * @param uid who must have written it
 * @throws Error for what Firecracker does not write
 */
export async function takeDifference(path: string, uid: number): Promise<OpenDifference> {
  const file = await open(path, flags);
  try {
    const stat = await file.stat();
    await rm(path);
    if (!stat.isFile() || stat.uid !== uid || stat.nlink !== 1) {
      throw new Error('The file of the memory is not what the VM monitor writes');
    }
    const runs = [...dataRuns(file.fd, 0, stat.size)];
    const memory: MemoryDifference = {
      since: 'parent',
      runs,
      async read(wanted, into) {
        let at = 0;
        for (const { offset, length } of wanted) {
          for (let done = 0; done < length; ) {
            const { bytesRead } = await file.read(into, at + done, length - done, offset + done);
            if (bytesRead === 0) throw new Error('The file of the memory is shorter than it was');
            done += bytesRead;
          }
          at += length;
        }
      },
    };
    return { memory, [Symbol.asyncDispose]: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}
