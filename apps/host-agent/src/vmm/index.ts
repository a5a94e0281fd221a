/** VM monitors: which one this machine can run, and what runs. */
export type {
  ProcessRef,
  Vm,
  VmMonitor,
  VmSpec,
  VmState,
} from './monitor.ts';
export { type MonitorProbe, probeMonitor } from './probe/probe.ts';
export { createQemuMonitor } from './qemu/index.ts';
