/** VM monitors: which one this machine can run, and what runs. */
export type {
  MonitorMachine,
  ProcessRef,
  Vm,
  VmMonitor,
  VmSpec,
  VmState,
} from './monitor.ts';
export { type MonitorProbe, probeMonitor } from './probe/probe.ts';
export { createQemuMonitor, overheadMb } from './qemu/index.ts';
