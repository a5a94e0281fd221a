/** What a host does with its sandboxes: create, destroy, notice their end, find them again. */
export { Admission, defaultMemoryMb } from './admission.ts';
export { BootSnapshots } from './boot-snapshots.ts';
export { DiskRoom } from './disk-room.ts';
export { type FsckDeps, fsck } from './fsck/index.ts';
export { Journal } from './journal.ts';
export { Lifecycle } from './lifecycle.ts';
export { checkpointMerger } from './merge-checkpoint.ts';
export { SavedStates } from './saved/index.ts';
export { SnapshotStore } from './snapshot-store.ts';
