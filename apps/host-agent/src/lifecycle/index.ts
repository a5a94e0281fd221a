/** The sandboxes of a host: create, destroy, notice their end, find them again. */
export { checkpointMerger, SavedStates, SnapshotStore } from './checkpoints/index.ts';
export { type FsckDeps, fsck } from './fsck/index.ts';
export { DiskRoom, Journal } from './journal/index.ts';
export { Lifecycle } from './lifecycle.ts';
export { Admission, BootSnapshots, defaultMemoryMb } from './start/index.ts';
