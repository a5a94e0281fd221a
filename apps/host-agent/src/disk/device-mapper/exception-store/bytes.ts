/** Reads of a given length. */
import type { FileHandle } from 'node:fs/promises';
import { StoreDamaged } from './damaged.ts';

/** Fills `into` from `position` on. @throws StoreDamaged when the file ends first */
export async function readFully(file: FileHandle, into: Buffer, position: number): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await file.read(into, done, into.length - done, position + done);
    if (bytesRead === 0) throw new StoreDamaged(`ends at ${position + done}, too early`);
    done += bytesRead;
  }
}
