import { isMarkedAsUntransferable } from 'node:worker_threads';

/**
 * Gives the memory of a chunk back, which nobody uses any more and which was allocated for it alone. The collector
 * counts such memory as pressure though it is outside of its heap, and goes through all of that again and again.
 * Nothing may be reading it either, as a write that has not ended does. A piece of a larger one stays, and so does
 * memory that Node shares out.
 */
export function release(chunk: Uint8Array): void {
  const { buffer } = chunk;
  if (!(buffer instanceof ArrayBuffer) || buffer.byteLength !== chunk.byteLength) return;
  if (!isMarkedAsUntransferable(buffer)) buffer.transfer(0);
}
