/** The name of a root disk's content. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { dataRuns } from '../../linux/index.ts';

/** SHA-256 of the data of a sparse file and where it lies: holes are not read. */
export async function contentIdOf(path: string): Promise<string> {
  await using file = await open(path);
  const { size } = await file.stat();
  const hash = createHash('sha256').update(`${size}`);
  const buffer = Buffer.allocUnsafe(4 * 2 ** 20);
  for (const { offset, length } of dataRuns(file.fd, 0, size)) {
    hash.update(`\n${offset} ${length}\n`);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, length - done), offset + done);
      if (bytesRead === 0) throw new Error(`${path} ends at ${offset + done}`);
      hash.update(buffer.subarray(0, bytesRead));
      done += bytesRead;
    }
  }
  return hash.digest('hex');
}
