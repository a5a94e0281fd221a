/** VM monitors by QEMU's microvm machine. */
export type { Accelerator } from './arguments.ts';
export { createQemuMonitor, overheadMb, type QemuMonitor, type QemuMonitorOptions } from './monitor.ts';
export { kvmRunsGuest } from './trial.ts';
