/**
 * The things on this machine by our names, held against the journal: the leak check of a host that works, and
 * what the start sweeps.
 */
import { readdirSync, statSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { FsckFinding } from '@perch/protocol';
import type { DiskBackend } from '../../disk/index.ts';
import { endProcess, type Leftover, type ProcessInfo, processes, worksIn } from '../../linux/index.ts';
import type { NetworkLayer } from '../../network/index.ts';
import { type VmMonitor, workplaces } from '../../vmm/index.ts';
import type { Journal, SandboxRecord } from '../journal/index.ts';
import { findingOf, notLookedAt } from './finding.ts';

export interface UnownedDeps {
  journal: Pick<Journal, 'list'>;
  network: Pick<NetworkLayer, 'slotOf' | 'unowned'>;
  monitor: Pick<VmMonitor, 'unowned'>;
  disks: Pick<DiskBackend, 'unowned'>;
  vmsDir: string;
  /** Directory of the sandboxes' states. */
  sandboxesDir: string;
}

/** Lists what exists, then looks at once who has it. */
type Look = () => Promise<Leftover[]>;

/** Processes go first: they hold the rest. */
export async function unownedFindings(deps: UnownedDeps, repair: boolean): Promise<FsckFinding[]> {
  const { journal, network, monitor, disks, vmsDir, sandboxesDir } = deps;
  const kinds: Record<string, Look> = {
    processes: async () => unownedProcesses(deps),
    [vmsDir]: () => unownedIn(vmsDir, () => machines(journal.list()), removeMachine),
    'cgroups of this instance': () => monitor.unowned(() => machines(journal.list())),
    'disks of this instance': () => disks.unowned(() => machines(journal.list())),
    'the network of this instance': () => network.unowned(() => slotsInUse(deps)),
    [sandboxesDir]: () => unownedIn(sandboxesDir, () => ids(journal.list()), removeState),
  };
  const findings: FsckFinding[] = [];
  for (const [kind, look] of Object.entries(kinds)) {
    try {
      for (const { what, remove } of await lookTwice(look)) {
        const problem = 'The journal has no sandbox that owns it.';
        const remedy = 'It goes by `perch fsck --repair`, and with the next start of perch-host.';
        findings.push(await findingOf({ what, problem, remedy, remove }, repair));
      }
    } catch (error) {
      findings.push(await findingOf(notLookedAt(kind, error), repair));
    }
  }
  return findings;
}

/** A thing that was given up between the listing and the look at its owners is gone at the second look. */
async function lookTwice(look: Look): Promise<Leftover[]> {
  const first = await look();
  if (first.length === 0) return [];
  const names = new Set(first.map(({ what }) => what));
  return (await look()).filter(({ what }) => names.has(what));
}

const ids = (records: readonly SandboxRecord[]) => new Set(records.map(({ id }) => id));

/** Names of the machines that there are, or may be. A paused sandbox has none. */
function machines(records: readonly SandboxRecord[]): Set<string> {
  return new Set(records.filter(({ status }) => status !== 'paused').map(({ vm }) => vm));
}

/** A thing of such a name is being made, and is its maker's. */
const isBeingMade = (name: string) => name.startsWith('.');

/** Slots that a sandbox has, and those whose user reads layers for us. */
function slotsInUse({ journal, network, vmsDir }: Omit<UnownedDeps, 'monitor' | 'disks'>): number[] {
  const ofSandboxes = journal.list().map(({ slot }) => slot);
  const ofTools = readdirSync(vmsDir)
    .filter(isBeingMade)
    .map((name) => statSync(join(vmsDir, name), { throwIfNoEntry: false })?.uid)
    .map((uid) => (uid === undefined ? undefined : network.slotOf(uid)));
  return [...ofSandboxes, ...ofTools].filter((slot) => slot !== null && slot !== undefined);
}

/** A slot's user has the processes of the VM that has the slot, or tools that read layers. */
function unownedProcesses(deps: UnownedDeps): Leftover[] {
  const running = processes().flatMap((process) => {
    const slot = deps.network.slotOf(process.uid);
    return slot === undefined ? [] : [{ process, slot }];
  });
  const records = new Map(deps.journal.list().map((record) => [record.slot, record]));
  const inUse = new Set(slotsInUse(deps));
  return running
    .filter(({ process, slot }) => {
      const record = records.get(slot);
      return record ? !isOf(record, process) : !inUse.has(slot);
    })
    .map(({ process }) => ({
      what: `process ${process.pid} of user ${process.uid}`,
      remove: () => endProcess(process),
    }));
}

/** A VM whose processes are not in the journal yet is being started. */
function isOf({ processes: known }: SandboxRecord, { pid, startTime }: ProcessInfo): boolean {
  return known.length === 0 || known.some((one) => one.pid === pid && one.startTime === startTime);
}

/** Entries of a directory that have none of the names which are owned once it was listed. */
async function unownedIn(
  dir: string,
  owned: () => ReadonlySet<string>,
  remove: (path: string) => Promise<void>,
): Promise<Leftover[]> {
  const existing = (await readdir(dir)).sort();
  const known = owned();
  return existing
    .filter((name) => !(known.has(name) || isBeingMade(name)))
    .map((name) => join(dir, name))
    .map((path) => ({ what: path, remove: () => remove(path) }));
}

/** Its user may be another machine's by now: of that one's processes none works in this directory. */
async function removeMachine(path: string): Promise<void> {
  const places = workplaces({ id: basename(path), dir: path });
  for (const process of processes())
    if (process.uid !== 0 && places.some((dir) => worksIn(process.pid, dir))) await endProcess(process);
  await rm(path, { recursive: true, force: true });
}

function removeState(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true });
}
