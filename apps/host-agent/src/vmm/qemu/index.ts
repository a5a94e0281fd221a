/** VM monitors by QEMU's microvm machine. */
export { createQemuMonitor, qemuCapabilities } from './monitor.ts';
export { kvmRunsGuest } from './trial.ts';
