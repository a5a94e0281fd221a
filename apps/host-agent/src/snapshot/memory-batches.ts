/** Cuts the dirty pages of a guest into reads of a bounded size. */
import { pageBytes, type Run } from './mapping.ts';

/** As many as one system call takes (IOV_MAX). */
export const maxRunsPerRead = 1024;
/** Two of these are held at a time. With single pages, as many as one read takes. */
export const batchBytes = maxRunsPerRead * pageBytes;

export interface Batch {
  runs: Run[];
  /** Of all runs together. */
  bytes: number;
}

export function* batches(dirty: readonly Run[]): Generator<Batch, undefined> {
  let batch: Batch = { runs: [], bytes: 0 };
  for (const { offset, length } of dirty) {
    let done = 0;
    while (done < length) {
      const part = Math.min(length - done, batchBytes - batch.bytes);
      batch.runs.push({ offset: offset + done, length: part });
      batch.bytes += part;
      done += part;
      if (batch.bytes === batchBytes) {
        yield batch;
        batch = { runs: [], bytes: 0 };
      }
    }
  }
  if (batch.bytes > 0) yield batch;
}
