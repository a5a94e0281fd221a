/** VM monitors by QEMU's microvm machine. */
export type { Accelerator } from './arguments.ts';
export { createQemuMonitor, overheadMb } from './monitor.ts';
export { kvmRunsGuest } from './trial.ts';
