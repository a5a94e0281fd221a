/** From a directory with its files to a QEMU process, confined and still stopped. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { openTap, readProcess, spawnConfined } from '../../linux/index.ts';
import type { ProcessRef, VmSpec } from '../monitor.ts';
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

export interface Launched {
  child: ChildProcess;
  process: ProcessRef;
}

/** Threads beside those of the vCPUs: main loop, RCU, migration, and up to 64 for disk requests. */
const extraTasks = 72;

export function taskLimit(vcpus: number): number {
  return vcpus + extraTasks;
}

/** @throws when the first tool of the chain cannot be started. What comes after shows as an exit. */
export async function launch(spec: Launch): Promise<Launched> {
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
    return await identify(spawnConfined(confinement, qemuArguments(machine)));
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** Before anything else runs: an exit is reaped only by a later turn of the event loop, so /proc has it. */
async function identify(child: ChildProcess): Promise<Launched> {
  if (child.pid === undefined) {
    const [cause] = await once(child, 'error');
    throw new Error('The tools that start a VM monitor cannot be started', { cause });
  }
  child.on('error', () => {});
  const info = readProcess(child.pid);
  if (!info) throw new Error(`Process ${child.pid} ended before it could be identified`);
  return { child, process: { pid: info.pid, startTime: info.startTime } };
}
