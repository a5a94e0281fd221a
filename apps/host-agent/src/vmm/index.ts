/** VM monitors: which one this machine can run, and what runs. */
export { type RestoreSetting, restoreSettings } from './firecracker/index.ts';
export { monitors, workplaces } from './kinds.ts';
export {
  type IoLimits,
  noRoomForGuest,
  type Started,
  type Vm,
  type VmMonitor,
  type VmSpec,
  type VmState,
} from './monitor.ts';
export { type MonitorProbe, probeMonitor } from './probe/probe.ts';
