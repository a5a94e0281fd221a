/** A host has one kind of disk: sandboxes that run on another keep it from changing. */
import { join } from 'node:path';
import { diskKinds } from './disk/index.ts';
import type { Journal } from './lifecycle/index.ts';
import { isAlive } from './linux/index.ts';

/** Ids in an error. */
const maxNamed = 10;

/** Ids of sandboxes, by the kind of disk that alone can adopt or give back theirs. */
type DisksInUse = ReadonlyMap<string, readonly string[]>;

/**
 * Changes nothing. Of a sandbox that neither runs nor holds a device of the kernel there is nothing that only its own
 * kind of disk could adopt or give back.
 */
export async function disksInUse(
  { instance, journal, vmsDir }: { instance: string; journal: Pick<Journal, 'list'>; vmsDir: string },
  kinds = diskKinds,
): Promise<DisksInUse> {
  const inUse = new Map<string, string[]>();
  for (const { id, vm, processes } of journal.list()) {
    const place = { id: vm, dir: join(vmsDir, vm) };
    for (const [kind, { holds }] of Object.entries(kinds)) {
      if (!(await holds(instance, place, processes.some(isAlive)))) continue;
      inUse.set(kind, [...(inUse.get(kind) ?? []), id]);
    }
  }
  return inUse;
}

/**
 * @param wanted the value of PERCH_ROOTFS
 * @returns that value, or for `auto` the kind in use
 * @throws Error for the operator, which names the sandboxes and the way out
 */
export function requireOneKindOfDisk(wanted: string, inUse: DisksInUse): string {
  const [first = wanted] = inUse.keys();
  const kind = wanted === 'auto' ? first : wanted;
  for (const [other, ids] of inUse) if (other !== kind) throw new Error(refusal(other, wanted, ids));
  return kind;
}

function refusal(kind: string, wanted: string, held: readonly string[]): string {
  const more = held.length > maxNamed ? ` and ${held.length - maxNamed} more` : '';
  return (
    `PERCH_ROOTFS is ${wanted}, and there are sandboxes on disks of ${kind}: ` +
    `${held.slice(0, maxNamed).join(', ')}${more}. Start with PERCH_ROOTFS=${kind}. To change it, pause or destroy ` +
    'them then, and stop Perch: perch down --keep'
  );
}
