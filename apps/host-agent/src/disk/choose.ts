/** Which disk back ends there are, and which of them this machine gets. */
import { qcow2Obstacle } from '@perch/node-kit';
import type { LayerFormat } from '@perch/protocol';
import type { DiskBackend, DiskPlace } from './backend.ts';
import {
  clearTrial,
  createDeviceMapperDisks,
  deviceMapperFails,
  deviceMapperHolds,
  deviceMapperLacks,
} from './device-mapper/index.ts';
import { createQcow2Disks, qcow2Holds } from './qcow2/index.ts';

interface DiskKind {
  /** Of its copy-on-write files. */
  format: LayerFormat;
  /** @param instance part of the names of devices, and of all that is no file in a VM's directory */
  create: (instance: string) => DiskBackend;
  /** The things that this machine lacks for it, with the remedy: a sentence. Undefined when it has all. */
  lacks: () => string | undefined;
  /**
   * The same, found by making a disk and removing it. `auto` takes a kind without this unseen.
   * @param dir for the disk, on the file system of all disks; it is made, and gone afterwards
   */
  fails?: (instance: string, dir: string) => Promise<string | undefined>;
  /** Removes what `fails` has left when it was cut short. */
  clearTrial?: (instance: string, dir: string) => Promise<void>;
  /**
   * Whether a VM has a disk that only this kind can adopt or give back. Changes nothing, on any machine.
   * @param runs whether a process of the VM is alive
   */
  holds: (instance: string, place: DiskPlace, runs: boolean) => Promise<boolean>;
}

type DiskKinds = Readonly<Record<string, DiskKind>>;

/** By the value of `PERCH_ROOTFS`; the first that serves a machine is what `auto` takes. */
export const diskKinds = {
  'device-mapper': {
    ...{ format: 'dm-snapshot', create: createDeviceMapperDisks, lacks: deviceMapperLacks },
    ...{ fails: deviceMapperFails, clearTrial, holds: deviceMapperHolds },
  },
  qcow2: { format: 'qcow2', create: createQcow2Disks, lacks: qcow2Obstacle, holds: qcow2Holds },
} as const satisfies DiskKinds;

/** What `auto` did not take, by its kind: why not. */
type Refused = Record<string, string>;

/**
 * @param wanted a kind, which is not tried, or `auto`
 * @param options.instance as `DiskKind` has it
 * @param options.dir as `DiskKind.fails` has it
 * @throws Error that says what this machine can have, and what it lacks for the rest
 */
export async function chooseDisks(
  wanted: string,
  { instance, dir }: { instance: string; dir: string },
  kinds: DiskKinds = diskKinds,
): Promise<{ kind: string; disks: DiskBackend; refused: Refused }> {
  for (const kind of Object.values(kinds)) await kind.clearTrial?.(instance, dir);
  // To ask what a kind lacks may have the kernel load its modules: only of those that may be taken.
  const candidates = Object.entries(kinds).filter(([name]) => wanted === 'auto' || name === wanted);
  const refused: Refused = {};
  for (const [kind, { create, lacks, fails }] of candidates) {
    const why = lacks() ?? (wanted === 'auto' ? await fails?.(instance, dir) : undefined);
    if (why === undefined) return { kind, disks: create(instance), refused };
    refused[kind] = why;
  }
  const others = Object.entries(kinds).filter(([name]) => !(name in refused));
  const possible: string[] = [];
  for (const [name, { lacks }] of others) {
    const why = lacks();
    if (why === undefined) possible.push(name);
    else refused[name] = why;
  }
  const may = possible.length > 0 ? `it may be auto or ${possible.join(' or ')}` : 'no kind of disk works';
  const lacking = Object.entries(refused).map(([name, why]) => `${name}: ${why}`);
  throw new Error([`PERCH_ROOTFS is ${wanted}; on this machine ${may}.`, ...lacking].join(' '));
}
