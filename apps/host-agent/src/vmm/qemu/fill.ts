/** Puts into a process that has mapped the flat memfile of an image what the image holds besides. */
import { type FileHandle, open } from 'node:fs/promises';
import { dataRuns } from '../../linux/index.ts';
import { type BuildId, flatMemoryOf, isOneFile, type MemoryImage, type Run } from '../../snapshot/index.ts';

/** Copies runs of the memory from `from`, where they lie one after the other. */
export type WriteMemory = (runs: readonly Run[], from: Uint8Array) => Promise<void>;

/** Bytes that are copied at a time. */
const batchBytes = 4 * 2 ** 20;

type StoredRun = Run & { storageOffset: number };

export async function fill(image: MemoryImage, write: WriteMemory): Promise<void> {
  if (isOneFile(image)) return;
  const { baseBuild, mapping } = image.header;
  await using flat = await open(flatMemoryOf(image));
  const stored = new Map<BuildId, StoredRun[]>();
  const zeros: Run[] = [];
  for (const { offset, length, build: owner, storageOffset } of mapping) {
    // Zeros that the guest wrote over what the flat file has; its holes are zeros already.
    if (owner === null) for (const run of dataRuns(flat.fd, offset, offset + length)) zeros.push(run);
    else if (owner !== baseBuild) {
      const runs = stored.get(owner) ?? [];
      runs.push({ offset, length, storageOffset });
      stored.set(owner, runs);
    }
  }
  for (const [owner, runs] of stored) {
    await using file = await open(image.memfileOf(owner));
    await fillStored(runs, file, write);
  }
  const nothing = Buffer.alloc(batchBytes);
  for (const run of zeros.flatMap(cut)) await write([run], nothing.subarray(0, run.length));
}

/** Runs that follow each other in the file are read in one go. */
async function fillStored(runs: readonly StoredRun[], file: FileHandle, write: WriteMemory): Promise<void> {
  const buffer = Buffer.allocUnsafe(batchBytes);
  let batch: Run[] = [];
  let [start, end] = [0, 0];
  const flush = async () => {
    if (batch.length === 0) return;
    const bytes = buffer.subarray(0, end - start);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, start);
    if (bytesRead !== bytes.length) throw new Error(`A memfile ends at ${start + bytesRead}, before ${end}`);
    await write(batch, bytes);
    batch = [];
  };
  for (const { offset, length, storageOffset } of runs) {
    for (const part of cut({ offset, length })) {
      const at = storageOffset + part.offset - offset;
      if (at !== end || end - start + part.length > batchBytes) {
        await flush();
        start = at;
      }
      batch.push(part);
      end = at + part.length;
    }
  }
  await flush();
}

function cut({ offset, length }: Run): Run[] {
  const parts: Run[] = [];
  for (let done = 0; done < length; done += batchBytes) {
    parts.push({ offset: offset + done, length: Math.min(batchBytes, length - done) });
  }
  return parts;
}
