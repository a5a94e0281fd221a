/**
 * The jail of one Firecracker, a directory that is all it sees: `DIR/firecracker/ID/root`, as the jailer has it, with
 * DIR the VM's directory. The jailer adds `dev/`; what the machine is made of is linked into it before.
 */
import { chown, link, lstat, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFifo } from '../../linux/index.ts';
import type { VmState } from '../monitor.ts';
import { pagerSocket } from '../pager/index.ts';
import { linkReadable } from '../process/index.ts';

/** Of the jailer's directory: the name of the program that it runs. */
const program = 'firecracker';

/** Paths in the jail. */
export const jailed = {
  kernel: '/kernel',
  initramfs: '/initramfs',
  disk: '/rootfs',
  api: '/api.sock',
  /** A FIFO. */
  metrics: '/metrics',
  /** The state that the machine goes on from. */
  devices: '/snapfile',
  memory: '/memfile',
  /** Where the pager of such a machine listens. */
  pager: `/${pagerSocket}`,
  /** The state that Firecracker writes. */
  savedDevices: '/devices.state',
  savedMemory: '/memory.state',
} as const;

export interface Jail {
  /** The VM's, which names it. */
  id: string;
  /** The VM's directory. */
  dir: string;
}

export function jailRoot({ dir, id }: Jail): string {
  return join(dir, program, id, 'root');
}

export interface JailFiles {
  kernel: string;
  initramfs: string;
  /** A node of the VM's directory. */
  disk: string;
  /** The monitor's. */
  uid: number;
  state?: Pick<VmState, 'devices'> | undefined;
}

/** Makes the jail with what a machine starts from, but for its memory. @throws when it exists, and is left as it is then */
export async function makeJail(jail: Jail, files: JailFiles): Promise<void> {
  const { kernel, initramfs, disk, state, uid } = files;
  const root = jailRoot(jail);
  // Firecracker takes any file for a disk.
  if (!(await lstat(disk)).isBlockDevice()) throw new Error(`${disk} is no block device`);
  // Root's: what lies above the jail is nobody else's to change.
  await mkdir(join(jail.dir, program), { mode: 0o700 });
  try {
    await mkdir(root, { recursive: true, mode: 0o700 });
    await linkReadable(kernel, join(root, jailed.kernel));
    await linkReadable(initramfs, join(root, jailed.initramfs));
    await link(disk, join(root, jailed.disk));
    makeFifo(join(root, jailed.metrics));
    await chown(join(root, jailed.metrics), uid, uid);
    if (state) await linkReadable(state.devices, join(root, jailed.devices));
  } catch (error) {
    await removeJail(jail);
    throw error;
  }
}

/** The monitor must be gone. No error when there is none. */
export async function removeJail({ dir }: Jail): Promise<void> {
  await rm(join(dir, program), { recursive: true, force: true });
}
