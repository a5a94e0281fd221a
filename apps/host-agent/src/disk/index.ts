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
export { chooseDisks } from './choose.ts';
export {
  type BlockDisk,
  type DiskFile,
  type DiskState,
  type FileDisk,
  layersOf,
  type VmDisk,
} from './disk.ts';
