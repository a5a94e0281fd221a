/** The monitors that there are, by the value of `PERCH_VMM`. */
import type { MonitorChoice } from '@perch/protocol';
import type { Logger } from 'pino';
import {
  createFirecrackerMonitor,
  firecrackerCapabilities,
  jailRoot,
  type RestoreSetting,
} from './firecracker/index.ts';
import type { IoLimits, MonitorCapabilities, VmIdentity, VmMonitor } from './monitor.ts';
import { createQemuMonitor, qemuCapabilities } from './qemu/index.ts';

export interface MonitorOptions {
  /** Short id of the data directory; part of the names of cgroups. */
  instance: string;
  /** Version of the program that is the monitor. */
  version: string;
  /** How guests get their memory back, of a monitor that has a choice. */
  restore: RestoreSetting;
  /** A directory on the file system of all states and VMs, for trials. */
  dir: string;
  /** A program that serves memory, if there is one: root-owned, 0555, on that file system. */
  pager?: string | undefined;
  /** Where it is noted what guests ask for first, and how much of that is put in place ahead. */
  prefetch: { dir: string; limitMib: number };
  /** Of each guest, of a monitor that limits. */
  limits: IoLimits;
  log: Logger;
}

interface MonitorEntry {
  capabilities: MonitorCapabilities;
  create: (options: MonitorOptions) => Promise<VmMonitor>;
}

export const monitors: Readonly<Record<MonitorChoice, MonitorEntry>> = {
  'qemu-kvm': {
    capabilities: qemuCapabilities,
    create: (options) => createQemuMonitor({ ...options, accelerator: 'kvm' }),
  },
  'qemu-tcg': {
    capabilities: qemuCapabilities,
    create: (options) => createQemuMonitor({ ...options, accelerator: 'tcg' }),
  },
  firecracker: { capabilities: firecrackerCapabilities, create: createFirecrackerMonitor },
};

/** The directories that processes of a VM work in, whatever its monitor is. */
export function workplaces(vm: Pick<VmIdentity, 'id' | 'dir'>): string[] {
  return [vm.dir, jailRoot(vm)];
}
