/** A host has one kind of monitor: VMs that run under another keep it from changing, and its disks must be of use to it. */
import { readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { type MonitorChoice, type MonitorKind, monitorChoices } from '@perch/protocol';
import type { Journal } from './lifecycle/index.ts';
import { isAlive } from './linux/index.ts';
import { monitors } from './vmm/index.ts';

/** Ids in an error. */
const maxNamed = 10;

/** Ids of sandboxes by the kind of monitor that they run under. */
type MonitorsInUse = ReadonlyMap<MonitorKind, readonly string[]>;

/** Changes nothing. */
export function monitorsInUse(journal: Pick<Journal, 'list'>): MonitorsInUse {
  const inUse = new Map<MonitorKind, string[]>();
  for (const { id, processes } of journal.list()) {
    for (const kind of new Set(processes.filter(isAlive).flatMap(({ pid }) => kindOf(pid) ?? []))) {
      inUse.set(kind, [...(inUse.get(kind) ?? []), id]);
    }
  }
  return inUse;
}

/**
 * @param choice the value of PERCH_VMM, undefined where the machine is asked: it answers with QEMU
 * @param disks the kind of the host's disks
 * @throws Error for the operator, with the way out
 */
export function requireMonitorThatFits(
  choice: MonitorChoice | undefined,
  inUse: MonitorsInUse,
  disks: { kind: string; areFiles: boolean },
): void {
  const kind = choice === undefined ? 'qemu' : monitorChoices[choice].kind;
  for (const [other, ids] of inUse) if (other !== kind) throw new Error(refusal(other, choice, ids));
  if (choice === undefined || !disks.areFiles || monitors[choice].capabilities.takesFiles) return;
  throw new Error(
    `PERCH_VMM is ${choice}, which opens disks that are devices only, and those of this host are ${disks.kind}. ` +
      'Start with PERCH_ROOTFS=device-mapper; perch doctor tells what that needs.',
  );
}

function refusal(kind: MonitorKind, choice: MonitorChoice | undefined, held: readonly string[]): string {
  const more = held.length > maxNamed ? ` and ${held.length - maxNamed} more` : '';
  const values = Object.entries(monitorChoices).flatMap(([name, { kind: of }]) =>
    of === kind ? [name] : [],
  );
  return (
    `PERCH_VMM is ${choice ?? 'not set'}, and there are sandboxes that run under ${kind}: ` +
    `${held.slice(0, maxNamed).join(', ')}${more}. Start with PERCH_VMM=${values.join(' or ')}. To change it, pause or ` +
    'destroy them then, and stop Perch: perch down --keep'
  );
}

/** By the program that the process is. */
function kindOf(pid: number): MonitorKind | undefined {
  let program: string;
  try {
    // An update of the host's programs takes the file away, which the kernel notes behind its name.
    program = basename(readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, ''));
  } catch {
    return undefined;
  }
  if (program === 'firecracker') return 'firecracker';
  return program.startsWith('qemu-system-') ? 'qemu' : undefined;
}
