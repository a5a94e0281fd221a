/** The one list of places where this process can be told to end, or to wait: `{operation}.{step just done}`. */

/** Of a guest that is started, in this order. */
export const startSteps = [
  'journaled',
  /** Taken, and not in the journal yet. */
  'slot',
  'slot_journaled',
  'directory',
  'disk',
  /** The process is there, and not in the journal yet. */
  'monitor',
  'process_journaled',
  'thawed',
  /** The guest confirmed who it is, and the journal does not know yet. */
  'ready',
  'running',
] as const;

/** Of a guest whose state is written, in this order. */
export const captureSteps = [
  'journaled',
  'begun',
  'frozen',
  'device_state',
  'memory',
  'disk',
  'before_commit',
  'committed',
] as const;

/** Of what a sandbox held being removed, in this order. */
export const teardownSteps = ['killed', 'disk_removed', 'slot_released'] as const;

const captures = ['pause', 'snapshot', 'fork'] as const;
/** `ready`: of a guest that is to stand ready. */
const starts = ['create', 'resume', 'template', 'ready'] as const;
/** `undo`: of a resume; `fail`: of a sandbox that failed. */
const teardowns = ['pause', 'destroy', 'fail', 'undo'] as const;

type Every<Operation extends string, Step extends string> = `${Operation}.${Step}`;

function every<O extends string, S extends string>(
  operations: readonly O[],
  steps: readonly S[],
): Every<O, S>[] {
  return operations.flatMap((operation) => steps.map((step): Every<O, S> => `${operation}.${step}`));
}

export const failpoints = [
  ...every(starts, startSteps),
  /** The checkpoint that the first life goes on from: linked one file after the other, and renamed after that. */
  'create.linked',
  'create.begun',
  /** Between what the monitor's own steps are: a cgroup without a process, a process without a cgroup. */
  'monitor.cgroup',
  'monitor.spawned',
  /** Of a disk of device-mapper: its store is there; the device of its image, too; and its device, without a node. */
  'disk.store',
  'disk.base',
  'disk.device',
  ...every(captures, captureSteps),
  /** The guest of a copy writes to another layer, and stands still; and runs again. */
  'copy.switched',
  'copy.thawed',
  /** The manifest is written, and the directory has its temporary name still. */
  'commit.manifest',
  /** The old one of a name is away, and the new one not in its place; and both are done. */
  'snapshot.replaced',
  'snapshot.placed',
  /** A snapshot that is deleted has no name any more; and nothing is left of it. */
  'remove.renamed',
  'remove.removed',
  /** A snapshot that is flattened or converted is held by links; those that the new one shares are made; its disk is a tool's still. */
  'flatten.held',
  'flatten.linked',
  'flatten.merged',
  'flatten.made',
  /** Of a snapshot whose layers get another format the shared files are linked; the new layer is a tool's still. */
  'convert.linked',
  'convert.written',
  /** A snapshot is copied; the parts of an older layout are; either is checked, and has no name. */
  'import.copied',
  'import.rebuilt',
  'import.checked',
  /** The copy that children of a fork start from is there, and none of them. */
  'fork.copied',
  'pause.sealed',
  'pause.settled',
  'pause.paused',
  /** Of a pause without memory: the guest changes nothing of its disk any more, and runs. */
  'cold.held',
  /** Of a resume without memory: the journal has what the guest is booted from, and there is no monitor. */
  'reboot.journaled',
  ...every(teardowns, teardownSteps),
  'destroy.journaled',
  'destroy.snapshots_removed',
  'destroy.gone',
  'fail.journaled',
  'template.agent',
  'template.paused',
  'template.kept',
  /** Another shape gives way to the new one: before it goes, and after. */
  'evict.chosen',
  'evict.removed',
  /** It has run a command; and stands still, in no list yet. */
  'ready.warm',
  'ready.still',
  /** The journal has another number of ready guests, of which nobody was told. */
  'pin.journaled',
  /** The journal has the sandbox in place of the ready guest, whose files have their old name; and the new one. */
  'takeover.journaled',
  'takeover.moved',
  /** A pause is undone, by the one who began it or by the next process. */
  'unpause.dropped',
  'unpause.thawed',
  /** Of a point that is merged: what is written beside it, what has its place, and what had it. */
  'merge.linked',
  'merge.memory',
  'merge.layers',
  'merge.made',
  'merge.exchanged',
  'merge.removed',
  /** A namespace and its links without settings, with a tap, with everything. */
  'slot.links',
  'slot.tap',
  'slot.made',
  /** Of a start: what nobody owns is gone, what lives is adopted, slots are known, the rest is given back. */
  'start.swept',
  'start.adopted',
  'start.network',
  'start.finished',
  'start.done',
] as const;

export type Failpoint = (typeof failpoints)[number];
export type StartStep = (typeof startSteps)[number];
export type CaptureStep = (typeof captureSteps)[number];
export type TeardownStep = (typeof teardownSteps)[number];
