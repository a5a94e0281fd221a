/** Snapshots: the directory that a sandbox is while it has no process, and the memory image in it. */
export { type BuildId, newBuildId } from './build-id.ts';
export { type FileSum, sumFile } from './checksum.ts';
export { type CommitRequest, commitSnapshot } from './commit.ts';
export { assertCompatible, type HostMachine } from './compatibility.ts';
export { SnapshotDamaged, SnapshotIncompatible } from './damaged.ts';
export { sync } from './files.ts';
export { writeHeader } from './header.ts';
export {
  ancestorMemfile,
  ancestorRootfsCow,
  type Occupied,
  SnapshotDirectory,
  snapshotFiles,
} from './layout.ts';
export type { Manifest, ManifestFacts, MonitorIdentity } from './manifest.ts';
export type { Mapping, Run } from './mapping.ts';
export {
  copyMemory,
  type MemoryCopy,
  type MemoryCopyRequest,
  type MemorySource,
} from './memory-copy.ts';
export { createMapping, type Diff, type DirtyRun, mergeMapping } from './merge.ts';
export { type RootfsMeta, writeRootfsMeta } from './rootfs-meta.ts';
export {
  openSnapshot,
  readManifest,
  readSnapshotJson,
  type Snapshot,
  verifySnapshot,
} from './snapshot.ts';
export { copyWholeMemory } from './whole-memory.ts';
