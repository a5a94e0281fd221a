/** VM monitors by QEMU's microvm machine. */
export { createQemuMonitor } from './monitor.ts';
export { kvmRunsGuest } from './trial.ts';
