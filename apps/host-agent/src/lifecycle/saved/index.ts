/** The states of sandboxes as files: written by a pause, gone on from by a resume. */
export type { Capture } from './capture.ts';
export { diskOf } from './disk.ts';
export type { FlatCopyTarget } from './flat-copy.ts';
export { CapturedIdentity } from './identity.ts';
export { excessOf, type MergeBounds, type Merged, mergeSnapshot } from './merge.ts';
export { factsOf, layerFiles, shareFiles } from './parts.ts';
export {
  type Checkpoint,
  type SavedState,
  SavedStates,
  type StateStore,
  startCheckpoint,
} from './saved-states.ts';
