/** Bulk data in pieces that are few, and in memory that is used again. */
import { finished, type Readable } from 'node:stream';
import { release } from '@perch/node-kit';

/** Above what any stream of Node holds before it asks its writer to wait, so that a batch has left when it goes on. */
export const batchBytes = 256 * 1024;

/**
 * The chunks of `source`, which nobody else may read or keep: the memory of its chunks is given back at once. The
 * collector counts it as pressure though it is outside of the heap, and goes through all of that again and again.
 *
 * A batch is overwritten when the next one is asked for. All are `batchBytes` long but the last, or the first
 * when that many were not expected. A source whose batches are not taken to their end stays as it is, paused: that
 * of an upload has a connection that is still to carry the answer.
 * @param expected bytes, if known
 */
export async function* inBatches(source: Readable, expected = batchBytes): AsyncGenerator<Buffer, void> {
  let batch = Buffer.allocUnsafeSlow(Math.min(Math.max(expected, 1), batchBytes));
  let filled = 0;
  let rest: { chunk: Buffer; from: number } | undefined;
  let ended = false;
  let failure: Error | null | undefined;
  let wake = () => {};

  const take = (chunk: Buffer, from = 0) => {
    const count = chunk.copy(batch, filled, from);
    filled += count;
    if (from + count < chunk.length) rest = { chunk, from: from + count };
    else release(chunk);
    if (filled < batch.length) return;
    source.pause();
    wake();
  };
  const onData = (chunk: Buffer) => take(chunk);
  source.on('data', onData);
  source.pause();
  const stopListening = finished(source, { writable: false }, (error) => {
    ended = true;
    failure = error;
    wake();
  });
  try {
    for (;;) {
      if (filled < batch.length && !ended) {
        const { promise, resolve } = Promise.withResolvers<void>();
        wake = resolve;
        source.resume();
        await promise;
      }
      if (failure) throw failure;
      if (filled === 0) return;
      yield filled === batch.length ? batch : batch.subarray(0, filled);
      filled = 0;
      if (batch.length < batchBytes) batch = Buffer.allocUnsafeSlow(batchBytes);
      const left = rest;
      rest = undefined;
      if (left) take(left.chunk, left.from);
    }
  } finally {
    stopListening();
    source.off('data', onData);
    source.pause();
  }
}
