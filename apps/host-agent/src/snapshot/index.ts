/** Snapshots: the directory that a sandbox is while it has no process, and the memory image in it. */
export { type BuildId, newBuildId } from './build-id.ts';
export { type FileSum, type Pace, sumFile } from './checksum.ts';
export { type CommitRequest, commitSnapshot } from './commit.ts';
export { assertCompatible } from './compatibility.ts';
export { composeMemory } from './composed-memory.ts';
export { SnapshotDamaged, SnapshotIncompatible } from './damaged.ts';
export { ExchangeNotDurable, exchangeSnapshots, whileInPlace } from './exchange.ts';
export { readFully } from './files.ts';
export { ForeignDirectory } from './foreign-directory.ts';
export { buildsOf, decodeHeader, type MemoryHeader, maxHeaderBytes, writeHeader } from './header.ts';
export { jsonReader } from './json.ts';
export {
  ancestorMemfile,
  ancestorRootfsCow,
  isOfRunning,
  memfileName,
  SnapshotDirectory,
  snapshotFiles,
} from './layout.ts';
export {
  decodeManifest,
  hasMemory,
  type Manifest,
  type ManifestFacts,
  maxManifestBytes,
} from './manifest.ts';
export type { Mapping, Run } from './mapping.ts';
export {
  copyMemory,
  type MemoryCopy,
  type MemoryCopyRequest,
  type MemorySource,
} from './memory-copy.ts';
export {
  copyDifference,
  headerOf,
  inheritedBuilds,
  type MemoryDifference,
  readableByVms,
} from './memory-difference.ts';
export {
  flatMemoryOf,
  isInTooManyFiles,
  isOneFile,
  type MemoryImage,
  maxMemfiles,
  memoryImageOf,
} from './memory-image.ts';
export { createMapping, type Diff, type DirtyRun, mergeMapping } from './merge.ts';
export { type Occupied, occupiedBy } from './occupied.ts';
export {
  decodeRootfsMeta,
  maxRootfsMetaBytes,
  type RootfsMeta,
  writeRootfsMeta,
} from './rootfs-meta.ts';
export {
  assertStored,
  isWithMemory,
  openSnapshot,
  readManifest,
  readSnapshotJson,
  type Snapshot,
  verifyFiles,
  verifySnapshot,
  type WithMemory,
} from './snapshot.ts';
export { copyMapped, copyWholeMemory, type ReadMemfile } from './whole-memory.ts';
