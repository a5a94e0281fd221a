/**
 * The memory of a guest as files. The memfile of the base build has every page at its place, so that a process can
 * map it; what has changed against that is in the memfiles of later builds, as the mapping says.
 */
import { open } from 'node:fs/promises';
import { dataRuns } from '../linux/index.ts';
import type { BuildId } from './build-id.ts';
import { buildsOf, type MemoryHeader } from './header.ts';
import { snapshotFiles } from './layout.ts';
import type { Mapping } from './mapping.ts';
import { createMapping } from './merge.ts';
import type { Snapshot } from './snapshot.ts';

export interface MemoryImage {
  header: MemoryHeader;
  /** Path of the file that has the header. */
  headerFile: string;
  /** Path of the memfile of the base build, or of one that the mapping names: root-owned, 0444. */
  memfileOf: (build: BuildId) => string;
}

/** Undefined of a snapshot without memory. */
export function memoryImageOf({
  directory,
  header,
}: Pick<Snapshot, 'directory' | 'header'>): MemoryImage | undefined {
  if (!header) return undefined;
  return {
    ...{ header, headerFile: directory.file(snapshotFiles.memfileHeader) },
    memfileOf: (build) => directory.memfileOf(build, header.build),
  };
}

/** Whether one memfile is all of it. */
export function isOneFile({ header: { build, baseBuild } }: MemoryImage): boolean {
  return build === baseBuild;
}

/** Each memfile is checked, opened and kept open for a guest that goes on from it. */
export const maxMemfiles = 128;

/** Whether the memory is in so many files that they have to become one before a guest goes on from it. */
export function isInTooManyFiles(header: MemoryHeader): boolean {
  return buildsOf(header).size > maxMemfiles;
}

/** Path of the file that a process can map. */
export function flatMemoryOf({ header, memfileOf }: MemoryImage): string {
  return memfileOf(header.baseBuild);
}

/** The mapping that the flat memfile is by itself: its data, and zeros in its holes. */
export async function flatMappingOf(image: MemoryImage): Promise<Mapping> {
  const { baseBuild: build, mapping } = image.header;
  await using file = await open(flatMemoryOf(image));
  const found = [...dataRuns(file.fd, 0, mapping.memoryBytes)];
  const runs = found.map((run) => ({ ...run, storageOffset: run.offset }));
  return createMapping(mapping.memoryBytes, { build, runs });
}
