/** Copies many small parts of a store to where they belong. */
import type { FileHandle } from 'node:fs/promises';
import { writeFully } from '../../bytes.ts';
import type { StoredRun } from '../../ranges.ts';
import { readFully } from './bytes.ts';

/** Read at a time, with all parts of it written at once, bytes: a part that is as long is copied by itself. */
export const scatteredBytes = 256 * 1024;
/** Read in vain rather than in two reads, bytes. */
const gapBytes = 32 * 1024;

/**
 * Reads them in the order of the store, which is the order in which a guest first wrote them: next to each other,
 * however far apart they are on the disk.
 * @param parts shorter than `scatteredBytes`; sorted in place
 * @throws what `signal` was aborted with; ENOSPC
 */
export async function copyScattered(
  from: FileHandle,
  to: FileHandle,
  parts: StoredRun[],
  signal?: AbortSignal,
): Promise<void> {
  const buffer = Buffer.allocUnsafe(scatteredBytes);
  for (const { start, end, within } of windows(parts.sort((a, b) => a.at - b.at))) {
    signal?.throwIfAborted();
    await readFully(from, buffer.subarray(0, end - start), start);
    const bytesOf = ({ at, length }: StoredRun) => buffer.subarray(at - start, at - start + length);
    await Promise.all(within.map((part) => writeFully(to, bytesOf(part), part.offset)));
  }
}

interface Window {
  start: number;
  end: number;
  within: StoredRun[];
}

function* windows(parts: readonly StoredRun[]): Generator<Window> {
  let window: Window | undefined;
  for (const part of parts) {
    const end = part.at + part.length;
    if (window && part.at - window.end <= gapBytes && end - window.start <= scatteredBytes) {
      window.end = end;
      window.within.push(part);
      continue;
    }
    if (window) yield window;
    window = { start: part.at, end, within: [part] };
  }
  if (window) yield window;
}
