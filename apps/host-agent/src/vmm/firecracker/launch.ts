/** From a jail with its files to a Firecracker process in it, which waits for its machine. */
import { join } from 'node:path';
import { giveTap, spawnJailer } from '../../linux/index.ts';
import type { VmSpec } from '../monitor.ts';
import { identified, type Spawned } from '../process/index.ts';
import { jailed } from './jail.ts';

export interface Programs {
  firecracker: string;
  jailer: string;
}

export interface Launch extends Pick<VmSpec, 'id' | 'dir' | 'uid' | 'vcpus'> {
  /** A guest without one stays in the network of this process, and has no device of it. */
  network?: VmSpec['network'];
  programs: Programs;
  /** Descriptors, which stay the caller's: where the guest's console goes, and stderr. */
  console: number;
  log: number;
  /** Largest file that it may write: the memory of its guest, or device state. */
  maxFileBytes: number;
}

/** Threads beside those of the vCPUs: the API's, the devices', one that snapshots use, and the pager. */
const extraTasks = 9;

export function taskLimit(vcpus: number): number {
  return vcpus + extraTasks;
}

/** Descriptors: devices, the API, timers of rate limiters. */
const maxOpen = 256;

/**
 * The jailer becomes Firecracker: the process that comes back is both.
 * @throws when the first tool of the chain cannot be started. A later failure shows as an exit
 */
export async function launch(to: Launch): Promise<Spawned> {
  if (to.network) giveTap(to.network.namespace, to.network.tap, to.uid);
  const limits = { maxFileBytes: to.maxFileBytes, maxTasks: taskLimit(to.vcpus) };
  const streams = { cwd: to.dir, stdout: to.console, stderr: to.log };
  return await identified(
    spawnJailer({ ...limits, ...streams }, [to.programs.jailer, ...jailerArguments(to)]),
  );
}

/** Pure. Source: docs/jailer.md of Firecracker 1.12. */
export function jailerArguments({ id, dir, uid, network, programs, maxFileBytes }: Launch): string[] {
  return [
    ...['--id', id, '--exec-file', programs.firecracker],
    ...['--uid', `${uid}`, '--gid', `${uid}`],
    ...(network ? ['--netns', join('/run/netns', network.namespace)] : []),
    ...['--chroot-base-dir', dir],
    ...['--resource-limit', `fsize=${maxFileBytes}`, '--resource-limit', `no-file=${maxOpen}`],
    '--',
    // What it has to say goes where the guest's console goes, unless it is an error.
    ...['--api-sock', jailed.api, '--level', 'Error'],
  ];
}
