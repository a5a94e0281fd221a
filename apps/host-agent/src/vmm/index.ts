/** VM monitors: which one this machine can run, and what runs. */
export type { ProcessRef, Vm, VmIdentity, VmMonitor, VmSpec } from './monitor.ts';
export { type MonitorChoice, type MonitorProbe, type ProbeOptions, probeMonitor } from './probe/probe.ts';
export {
  type Accelerator,
  createQemuMonitor,
  overheadMb,
  type QemuMonitor,
  type QemuMonitorOptions,
} from './qemu/index.ts';
