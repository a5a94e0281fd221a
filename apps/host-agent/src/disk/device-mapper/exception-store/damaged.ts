/** A store that says what no kernel writes, and the reading of one that may end anywhere. */
import type { FileHandle } from 'node:fs/promises';

/** The file is no exception store, or not a whole one, or not one of that disk. No part of it may be used. */
export class StoreDamaged extends Error {
  override readonly name = 'StoreDamaged';

  /** @param reason the fault, as the rest of a sentence */
  constructor(reason: string) {
    super(`The exception store ${reason}`);
  }
}

/** Fills `into` from `position` on. @throws StoreDamaged when the file ends first */
export async function readFully(file: FileHandle, into: Buffer, position: number): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await file.read(into, done, into.length - done, position + done);
    if (bytesRead === 0) throw new StoreDamaged(`ends at ${position + done}, too early`);
    done += bytesRead;
  }
}
