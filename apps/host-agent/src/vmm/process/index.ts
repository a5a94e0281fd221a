/** Processes of VMs, whatever they are: started, watched, found again, ended. */
export { ConsoleTail, lastFrom } from './console-tail.ts';
export {
  createLog,
  linkReadable,
  logName,
  makeFiles,
  makeZeros,
  readLogTail,
  removeFiles,
  takeFile,
} from './directory.ts';
export { guestRestarted } from './exit-reason.ts';
export { findProcess } from './find.ts';
export { type VmCgroup, VmLimits } from './limits.ts';
export { notStarted } from './not-started.ts';
export { identified, type Spawned } from './spawn.ts';
export { type VmProcess, VmProcesses } from './vm-processes.ts';
