/** From a directory with its files to a QEMU process, confined and still stopped. */
import { closeSync, openSync } from 'node:fs';
import { openTap, spawnConfined } from '../../linux/index.ts';
import type { VmSpec } from '../monitor.ts';
import { identified, type Spawned } from '../process/index.ts';
import { type MachineSpec, qemuArguments } from './arguments.ts';

export interface Launch {
  dir: string;
  uid: number;
  /** Descriptor of the log, for stderr. It stays the caller's. */
  log: number;
  machine: Omit<MachineSpec, 'network' | 'kvmFd'>;
  /** Without one the machine has no network card, and its process an empty namespace. */
  network?: VmSpec['network'];
  maxFileBytes: number;
}

/** Threads beside those of the vCPUs: main loop, RCU, migration, and up to 64 for disk requests. */
const extraTasks = 72;

export function taskLimit(vcpus: number): number {
  return vcpus + extraTasks;
}

/** @throws when the first tool of the chain cannot be started. A later failure shows as an exit. */
export async function launch(spec: Launch): Promise<Spawned> {
  const opened: number[] = [];
  try {
    const machine: MachineSpec = { ...spec.machine };
    const firstFd = 3;
    if (spec.network) {
      machine.network = { mac: spec.network.mac, tapFd: firstFd + opened.length };
      opened.push(openTap(spec.network.namespace, spec.network.tap));
    }
    if (machine.accelerator === 'kvm') {
      machine.kvmFd = firstFd + opened.length;
      opened.push(openSync('/dev/kvm', 'r+'));
    }
    const confinement = {
      namespace: spec.network?.namespace,
      uid: spec.uid,
      maxFileBytes: spec.maxFileBytes,
      maxTasks: taskLimit(machine.vcpus),
      cwd: spec.dir,
      stderr: spec.log,
      descriptors: opened,
    };
    return await identified(spawnConfined(confinement, qemuArguments(machine)));
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}
