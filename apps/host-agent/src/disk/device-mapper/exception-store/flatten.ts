/** Puts a base and a store over it together in a raw image of its own. */
import type { FileHandle } from 'node:fs/promises';
import { copySparse, dataRuns } from '../../../linux/index.ts';
import type { StoredRun } from '../../ranges.ts';
import { copyScattered, scatteredBytes } from './scattered.ts';
import type { ExceptionStore } from './store.ts';

/** Most small parts that are kept in mind. */
const maxSmall = 4096;

/**
 * Its cost follows what base and store have allocated: holes stay holes, and blocks are shared where the file system
 * can do so. Not synced. Moves the position of all files.
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
  const copyBase = async (end: number) => {
    await copySparse(base, to, { at: done, offset: done, length: end - done }, signal);
    done = end;
  };
  let small: StoredRun[] = [];
  const copySmall = async (end: number) => {
    await copyBase(end);
    await copyScattered(store.file, to, small, signal);
    small = [];
  };
  for (const { isData, ...part } of partsOf(store)) {
    const end = part.offset + part.length;
    if (isData && part.length < scatteredBytes) {
      small.push(part);
      if (small.length === maxSmall) await copySmall(end);
      continue;
    }
    // The base is not read below a part that is large, nor below one that is zeros.
    await copyBase(part.offset);
    if (isData) await copySparse(store.file, to, part, signal);
    done = end;
  }
  await copySmall(diskBytes);
}

/** The runs of a store, cut where their data begin and end: what lies between is zeros. */
function* partsOf(store: ExceptionStore): Generator<StoredRun & { isData: boolean }> {
  for (const { offset, length, at } of store.runs()) {
    const part = (from: number, end: number, isData: boolean) => {
      return { offset: offset + from - at, length: end - from, at: from, isData };
    };
    let done = at;
    for (const data of dataRuns(store.file.fd, at, at + length)) {
      if (data.offset > done) yield part(done, data.offset, false);
      done = data.offset + data.length;
      yield part(data.offset, done, true);
    }
    if (done < at + length) yield part(done, at + length, false);
  }
}
