/** Puts a base and a store over it together in a raw image of its own. */
import type { FileHandle } from 'node:fs/promises';
import { copySparse } from '../../../linux/index.ts';
import type { ExceptionStore } from './store.ts';

/**
 * Its cost follows what base and store have allocated: holes stay holes, the parts of the base that the store has
 * are not read, and blocks are shared where the file system can do so. Not synced. Moves the position of all files.
 * @param base the raw image below; zeros follow up to the size of the disk
 * @param to empty, open for writing
 * @throws RangeError for a base that is larger than the disk; what `signal` was aborted with; ENOSPC
 */
export async function flattenStore(
  base: FileHandle,
  store: ExceptionStore,
  to: FileHandle,
  signal?: AbortSignal,
): Promise<void> {
  const { diskBytes } = store;
  const { size } = await base.stat();
  if (size > diskBytes) {
    throw new RangeError(`The disk (${diskBytes} bytes) is smaller than its base (${size} bytes)`);
  }
  await to.truncate(diskBytes);
  let done = 0;
  for (const run of store.runs()) {
    await copySparse(base, to, { at: done, offset: done, length: run.offset - done }, signal);
    await copySparse(store.file, to, run, signal);
    done = run.offset + run.length;
  }
  await copySparse(base, to, { at: done, offset: done, length: diskBytes - done }, signal);
}
