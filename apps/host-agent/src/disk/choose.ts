/** Which disk back ends there are, and which of them this machine gets. */
import { qcow2Obstacle } from '@perch/node-kit';
import type { LayerFormat } from '@perch/protocol';
import type { DiskBackend, DiskPlace } from './backend.ts';
import { createDeviceMapperDisks, deviceMapperHolds, deviceMapperLacks } from './device-mapper/index.ts';
import { createQcow2Disks, qcow2Holds } from './qcow2/index.ts';

interface DiskKind {
  /** Of its copy-on-write files. */
  format: LayerFormat;
  /** @param instance part of the names of devices, and of all that is no file in a VM's directory */
  create: (instance: string) => DiskBackend;
  /** The things that this machine lacks for it, with the remedy: a sentence. Undefined when it has all. */
  lacks: () => string | undefined;
  /**
   * Whether a VM has a disk that only this kind can adopt or give back. Changes nothing, on any machine.
   * @param runs whether a process of the VM is alive
   */
  holds: (instance: string, place: DiskPlace, runs: boolean) => Promise<boolean>;
}

/** By the value of `PERCH_ROOTFS`; the first that a machine can have is what `auto` takes. */
export const diskKinds: Readonly<Record<string, DiskKind>> = {
  qcow2: { format: 'qcow2', create: createQcow2Disks, lacks: qcow2Obstacle, holds: qcow2Holds },
  'device-mapper': {
    ...{ format: 'dm-snapshot', create: createDeviceMapperDisks, lacks: deviceMapperLacks },
    holds: deviceMapperHolds,
  },
};

/**
 * @param wanted a kind, or `auto`
 * @param instance as `DiskKind` has it
 * @throws Error that says what this machine can have, and what it lacks for the rest
 */
export function chooseDisks(wanted: string, instance: string, kinds = diskKinds): DiskBackend {
  // To ask what a kind lacks may have the kernel load its modules: only of those that may be taken.
  const candidates = Object.entries(kinds).filter(([name]) => wanted === 'auto' || name === wanted);
  const kind = candidates.find(([, { lacks }]) => lacks() === undefined)?.[1];
  if (kind) return kind.create(instance);
  const lacking: string[] = [];
  const possible: string[] = [];
  for (const [name, { lacks }] of Object.entries(kinds)) {
    const why = lacks();
    if (why === undefined) possible.push(name);
    else lacking.push(`${name}: ${why}`);
  }
  const may = possible.length > 0 ? `it may be auto or ${possible.join(' or ')}` : 'no kind of disk works';
  throw new Error([`PERCH_ROOTFS is ${wanted}; on this machine ${may}.`, ...lacking].join(' '));
}
