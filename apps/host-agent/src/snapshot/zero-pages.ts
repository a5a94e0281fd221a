/** Tells pages of zeros from others. */
import { pageBytes, type Run } from './mapping.ts';

/** Pages beside each other in guest memory that are all zeros, or none of them. */
export interface Span extends Run {
  /** Where they begin in the buffer. */
  start: number;
  zero: boolean;
}

const zeroPage = Buffer.alloc(pageBytes);

/** @param buffer a memory of its own (`Buffer.allocUnsafeSlow`), with the bytes of the runs one after the other */
export function findZeroPages(runs: readonly Run[], buffer: Buffer): Span[] {
  const words = new Int32Array(buffer.buffer, buffer.byteOffset, buffer.length / 4);
  const spans: Span[] = [];
  let start = 0;
  for (const run of runs) {
    let span: Span | undefined;
    for (let offset = run.offset; offset < run.offset + run.length; offset += pageBytes) {
      const zero = isZeroPage(buffer, words, start);
      if (span?.zero === zero) {
        span.length += pageBytes;
      } else {
        span = { offset, length: pageBytes, start, zero };
        spans.push(span);
      }
      start += pageBytes;
    }
  }
  return spans;
}

/** Most pages in use differ from zero in one of a few words, which are much cheaper to look at than to call out. */
function isZeroPage(buffer: Buffer, words: Int32Array, start: number): boolean {
  const first = start / 4;
  if (words[first] !== 0 || words[first + 256] !== 0 || words[first + 512] !== 0) return false;
  return buffer.compare(zeroPage, 0, pageBytes, start, start + pageBytes) === 0;
}
