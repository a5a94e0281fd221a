/** States of sandboxes as files: written, gone on from, copied, merged, flattened, imported; with or without a name. */
export type { Capture } from './capture.ts';
export { Conversions } from './conversions.ts';
export type { ConvertDeps } from './convert.ts';
export { diskOf } from './disk.ts';
export { type FlattenDeps, flattenSnapshot } from './flatten.ts';
export { importSnapshot } from './import/index.ts';
export { checkpointMerger } from './merge-checkpoint.ts';
export { type MergeReport, Merges, type MergesOptions } from './merges.ts';
export { type SavedState, SavedStates, type StateStore, startCheckpoint } from './saved-states.ts';
export { SnapshotStore } from './snapshot-store.ts';
