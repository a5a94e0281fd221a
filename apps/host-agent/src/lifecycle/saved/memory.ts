/**
 * Guest memory between a process and its files. One memfile holds every page at its place and is what the
 * process maps; a later snapshot holds only what has changed against that file, however many lives lie
 * between. So a snapshot needs two files at most, and a resume reads what it needs when it needs it.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { dataRuns } from '../../linux/index.ts';
import { type BuildId, createMapping, type Mapping, type Run, type Snapshot } from '../../snapshot/index.ts';
import type { GuestMemory } from '../../vmm/index.ts';

/** A memfile in which every page is at its place. */
export interface FlatMemory {
  build: BuildId;
  path: string;
}

/** What the process of a guest maps when it goes on from this snapshot. */
export function flatMemoryOf({ directory, header }: Snapshot): FlatMemory {
  return { build: header.baseBuild, path: directory.memfileOf(header.baseBuild, header.build) };
}

/** The mapping that a flat memfile is by itself: its data, and zeros in its holes. */
export async function mappingOf({ build, path }: FlatMemory, memoryBytes: number): Promise<Mapping> {
  await using file = await open(path);
  const runs = [...dataRuns(file.fd, 0, memoryBytes)].map((run) => ({ ...run, storageOffset: run.offset }));
  return createMapping(memoryBytes, { build, runs });
}

/** Bytes that are copied at a time. */
const batchBytes = 4 * 2 ** 20;

/** Puts what a snapshot has changed against its flat memory into a process that has mapped that. */
export async function fillChanges(snapshot: Snapshot, memory: GuestMemory): Promise<void> {
  const { directory, header } = snapshot;
  if (header.build === header.baseBuild) return;
  await using own = await open(directory.memfileOf(header.build, header.build));
  await using flat = await open(flatMemoryOf(snapshot).path);
  const stored: (Run & { storageOffset: number })[] = [];
  const zeros: Run[] = [];
  for (const { offset, length, build, storageOffset } of header.mapping) {
    if (build === header.build) stored.push({ offset, length, storageOffset });
    // Zeros that the guest wrote over what the flat file has; its holes are zeros already.
    else if (build === null) zeros.push(...dataRuns(flat.fd, offset, offset + length));
  }
  await fillStored(stored, own, memory);
  const nothing = Buffer.alloc(batchBytes);
  for (const run of zeros.flatMap(cut)) await memory.write([run], nothing.subarray(0, run.length));
}

/** Runs that follow each other in the file are read in one go. */
async function fillStored(
  runs: readonly (Run & { storageOffset: number })[],
  file: FileHandle,
  memory: GuestMemory,
): Promise<void> {
  const buffer = Buffer.allocUnsafe(batchBytes);
  let batch: Run[] = [];
  let [start, end] = [0, 0];
  const flush = async () => {
    if (batch.length === 0) return;
    const bytes = buffer.subarray(0, end - start);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, start);
    if (bytesRead !== bytes.length) throw new Error(`A memfile ends at ${start + bytesRead}, before ${end}`);
    await memory.write(batch, bytes);
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
