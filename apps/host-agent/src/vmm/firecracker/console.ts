/**
 * The guest's console: a FIFO that Firecracker writes and this process empties. It is open for both directions on both
 * sides, so that it lives on when either ends, and nobody waits: what finds no room is lost.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '@perch/node-kit';
import { makeFifo } from '../../linux/index.ts';
import type { ConsoleTail } from '../process/index.ts';

/** In the VM's directory. */
export const consoleName = 'console';
/** A FIFO holds so much, bytes. */
const readBytes = 64 * 1024;
/** Reads at a time, against a guest that writes as fast as it is read. */
const maxReads = 16;
const flags = constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOFOLLOW;

/** @throws when there is one */
export async function makeConsole(dir: string): Promise<FileHandle> {
  makeFifo(join(dir, consoleName));
  return await openConsole(dir);
}

/** @throws Error for what is not the FIFO that we made: the directory is the monitor's */
export async function openConsole(dir: string): Promise<FileHandle> {
  const file = await open(join(dir, consoleName), flags);
  const stat = await file.stat();
  if (stat.isFIFO() && stat.uid === process.getuid?.()) return file;
  await file.close();
  throw new Error('The console is not the FIFO that was made');
}

/** Moves all that is there into `tail`. */
export function drainConsole(console: FileHandle, tail: ConsoleTail): Promise<void> {
  return drainFifo(console, (bytes) => tail.append(bytes));
}

/** The same of any FIFO that was opened not to wait. */
export async function drainFifo(fifo: FileHandle, take: (bytes: Buffer) => void): Promise<void> {
  for (let reads = 0; reads < maxReads; reads++) {
    try {
      const { bytesRead, buffer } = await fifo.read(Buffer.alloc(readBytes), 0, readBytes, null);
      if (bytesRead === 0) return;
      take(buffer.subarray(0, bytesRead));
      if (bytesRead < readBytes) return;
    } catch (error) {
      if (hasCode(error, 'EAGAIN')) return;
      throw error;
    }
  }
}
