/** A host has one kind of disk: sandboxes that run on another keep it from changing. */
import { join } from 'node:path';
import { type DiskBackend, diskKinds } from './disk/index.ts';
import type { Journal } from './lifecycle/index.ts';
import { isAlive } from './linux/index.ts';

/** Ids in an error. */
const maxNamed = 10;

export interface DisksOfHost {
  /** The value of PERCH_ROOTFS. */
  wanted: string;
  chosen: Pick<DiskBackend, 'capabilities'>;
  instance: string;
  journal: Pick<Journal, 'list'>;
  vmsDir: string;
}

/**
 * Changes nothing. Of a sandbox that neither runs nor holds a device of the kernel there is nothing that only its own
 * kind of disk could adopt or give back.
 * @throws Error for the operator, which names the sandboxes and the way out
 */
export async function requireOneKindOfDisk(host: DisksOfHost, kinds = diskKinds): Promise<void> {
  const { wanted, chosen, instance, journal, vmsDir } = host;
  const records = journal.list();
  for (const [name, { format, holds }] of Object.entries(kinds)) {
    if (format === chosen.capabilities.format) continue;
    const held: string[] = [];
    for (const { id, vm, processes } of records) {
      const place = { id: vm, dir: join(vmsDir, vm) };
      if (await holds(instance, place, processes.some(isAlive))) held.push(id);
    }
    if (held.length > 0) throw new Error(refusal(name, wanted, held));
  }
}

function refusal(kind: string, wanted: string, held: readonly string[]): string {
  const more = held.length > maxNamed ? ` and ${held.length - maxNamed} more` : '';
  return (
    `PERCH_ROOTFS is ${wanted}, and there are sandboxes on disks of ${kind}: ` +
    `${held.slice(0, maxNamed).join(', ')}${more}. Start with PERCH_ROOTFS=${kind}. To change it, pause or destroy ` +
    'them then, and stop Perch: perch down --keep'
  );
}
