/** VM monitors by Firecracker, each in the jail that its jailer makes. */
export { jailRoot } from './jail.ts';
export { type RestoreSetting, restoreSettings } from './memory-way.ts';
export { createFirecrackerMonitor, firecrackerCapabilities } from './monitor.ts';
export { firecrackerRunsGuest } from './trial.ts';
