/** Disks of guests: what each writes, over an image that many share. */
export {
  type DiskBackend,
  type DiskCapture,
  DiskGone,
  type DiskPlace,
  type DiskSpec,
  type DiskUser,
  type ToolPlace,
  UserStillRuns,
} from './backend.ts';
export type { LayeredState } from './changes.ts';
export { chooseDisks, diskKinds } from './choose.ts';
export { convertLayers } from './convert.ts';
export {
  type BlockDisk,
  type DiskFile,
  type DiskState,
  type FileDisk,
  isOfOtherKind,
  layersOf,
  type VmDisk,
} from './disk.ts';
