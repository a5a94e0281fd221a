/** The chunks of an answer, for a reader that copies their bytes. */
import { on } from 'node:events';
import type { Readable } from 'node:stream';
import { release } from '@perch/node-kit';

/** Chunks that wait before nothing more is read. */
const maxWaiting = 8;

/**
 * Each as it came, in order: the iteration of Node copies those that wait into one. A chunk may not be used when the
 * next one has been asked for: it is a part of what was read at once from the connection, and the memory of that is
 * given back when the next part is of another.
 * @throws the error of the connection
 */
export async function* chunksOf(body: Readable): AsyncGenerator<Buffer, void, void> {
  let read: ArrayBufferLike | undefined;
  const options = { close: ['end', 'close'], highWaterMark: maxWaiting, lowWaterMark: 1 };
  for await (const [chunk] of on(body, 'data', options) as AsyncIterable<[Buffer]>) {
    if (read && read !== chunk.buffer) release(new Uint8Array(read));
    read = chunk.buffer;
    yield chunk;
  }
}
