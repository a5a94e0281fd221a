/**
 * A host has one kind of monitor: VMs that run under another keep it from changing, states of another from changing by
 * itself, and its disks and limits must be of use to it.
 */
import { readlinkSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename } from 'node:path';
import { ifThere } from '@perch/node-kit';
import { type MonitorChoice, type MonitorKind, monitorChoices, monitorNames } from '@perch/protocol';
import type { Journal } from './lifecycle/index.ts';
import { isAlive } from './linux/index.ts';
import { type IoLimits, monitors } from './vmm/index.ts';

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
 * @param choice the value of PERCH_VMM, undefined where the machine is asked: a kind in use is kept then
 * @param disks the kind of the host's disks
 * @throws Error for the operator, with the way out
 */
export function requireMonitorThatFits(
  choice: MonitorChoice | undefined,
  inUse: MonitorsInUse,
  disks: { kind: string; areFiles: boolean },
): void {
  const [first] = inUse.keys();
  const kind = choice === undefined ? first : monitorChoices[choice].kind;
  for (const [other, ids] of inUse) if (other !== kind) throw new Error(refusal(other, choice, ids));
  if (choice === undefined || !disks.areFiles || monitors[choice].capabilities.takesFiles) return;
  throw new Error(
    `PERCH_VMM is ${choice}, which opens disks that are devices only, and those of this host are ${disks.kind}. ` +
      'Start with PERCH_ROOTFS=device-mapper; perch doctor tells what that needs.',
  );
}

/** The kind of the host's states: those of paused sandboxes and snapshots, with which no other goes on. */
export async function kindOfStates(
  journal: Pick<Journal, 'setting'>,
  dirs: readonly string[],
): Promise<MonitorKind | undefined> {
  const found = await Promise.all(dirs.map(async (dir) => (await ifThere(readdir(dir))) ?? []));
  if (found.every((names) => names.length === 0)) return undefined;
  return journal.setting(settingName) === 'firecracker' ? 'firecracker' : 'qemu';
}

/** For `kindOfStates` of later starts: all states from now on are of this kind. */
export function keepKind(journal: Pick<Journal, 'setSetting'>, choice: MonitorChoice): void {
  journal.setSetting(settingName, monitorChoices[choice].kind);
}

/** In the journal. One without it is of a host that could have QEMU only. */
const settingName = 'monitor';

/** The only kind that a host can have whom nobody tells which, and why: undefined where the machine may be asked. */
export function onlyKind(
  inUse: MonitorsInUse,
  ofStates: MonitorKind | undefined,
  disks: { kind: string; areFiles: boolean },
): { kind: MonitorKind; why: string } | undefined {
  const [running] = inUse.keys();
  if (running) return { kind: running, why: `sandboxes run under ${monitorNames[running]}` };
  if (disks.areFiles)
    return { kind: 'qemu', why: `disks of ${disks.kind} are files, which it does not open` };
  if (ofStates) return { kind: ofStates, why: `the states of this host are of ${monitorNames[ofStates]}` };
  return undefined;
}

/** @throws Error for the operator: a limit that nobody keeps is worse than none */
export function requireMonitorThatLimits(choice: MonitorChoice, limits: IoLimits): void {
  const isSet = Object.values(limits).some((limit) => limit !== undefined);
  if (!isSet || monitors[choice].capabilities.limitsIo) return;
  throw new Error(
    `PERCH_DISK_MB_PER_SEC, PERCH_DISK_REQUESTS_PER_SEC or PERCH_NET_MB_PER_SEC is set, and ${choice}, which this host ` +
      'runs, holds guests to no such limit. Start without them, or with PERCH_VMM=firecracker.',
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
