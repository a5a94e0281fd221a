/** States of sandboxes, snapshots and boot snapshots: whether each that is needed is there, and all are whole. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { ifThere } from '@perch/node-kit';
import type { FsckFinding } from '@perch/protocol';
import { SnapshotDamaged, SnapshotDirectory, verifySnapshot } from '../../snapshot/index.ts';
import type { Journal, SandboxRecord } from '../journal/index.ts';
import type { BootSnapshots } from '../start/index.ts';
import { findingOf, notLookedAt } from './finding.ts';

export interface StatesDeps {
  journal: Pick<Journal, 'get' | 'list'>;
  /** Directories with a snapshot in each of their directories. */
  sandboxesDir: string;
  snapshotsDir: string;
  bootSnapshotsDir: string;
  bootSnapshots: Pick<BootSnapshots, 'remove'>;
}

/** States of a sandbox in which no other checkpoint becomes the one that it goes on from. */
const settled: readonly SandboxRecord['status'][] = ['running', 'paused', 'failed'];

export async function statesFindings(deps: StatesDeps, repair: boolean): Promise<FsckFinding[]> {
  const verified = new Set<string>();
  const findings: FsckFinding[] = [];
  const add = async (...of: Parameters<typeof findingOf>) => void findings.push(await findingOf(...of));
  const check = async (path: string, ifDamaged: () => IfDamaged) => {
    const error = await wrongWith(path, verified);
    if (error === undefined) return;
    if (!(error instanceof SnapshotDamaged)) await add(notLookedAt(path, error), repair);
    else await add({ what: path, problem: error.message, ...ifDamaged() }, repair);
  };
  const checkAll = async (dir: string, ifDamaged: (name: string) => IfDamaged) => {
    try {
      for (const name of await namesIn(dir)) await check(join(dir, name), () => ifDamaged(name));
    } catch (error) {
      await add(notLookedAt(dir, error), repair);
    }
  };
  for (const { id } of deps.journal.list()) {
    const dir = join(deps.sandboxesDir, id);
    await checkAll(dir, (checkpoint) => checkpointDamaged(deps.journal.get(id), dir, checkpoint));
    const missing = await missingCheckpoint(deps, id);
    if (missing) await add(missing, repair);
  }
  await checkAll(deps.snapshotsDir, (name) => ({ remedy: `Delete it: perch snapshot rm ${name}` }));
  await checkAll(deps.bootSnapshotsDir, (key) => ({
    remedy: 'The next create of its shape boots another.',
    remove: () => deps.bootSnapshots.remove(key),
  }));
  return findings;
}

interface IfDamaged {
  remedy: string;
  remove?: () => Promise<void>;
}

/** But for what is being made or removed, which has a dot in front. None when there is no directory. */
async function namesIn(dir: string): Promise<string[]> {
  const names = (await ifThere(readdir(dir))) ?? [];
  return names.filter((name) => !name.startsWith('.')).sort();
}

/**
 * Why a snapshot cannot be gone on from, or why nobody knows; undefined when it is whole, or gone. It comes and goes by
 * renames: what is found of one that is not there any more is no finding.
 */
async function wrongWith(path: string, verified: Set<string>): Promise<unknown> {
  for (;;) {
    const before = await inodeOf(path).catch((error: unknown) => error);
    if (typeof before !== 'number') return before;
    try {
      await verifySnapshot(new SnapshotDirectory(path), verified);
      return undefined;
    } catch (error) {
      if ((await inodeOf(path).catch(() => before)) === before) return error;
    }
  }
}

/** Undefined when there is nothing. */
async function inodeOf(path: string): Promise<number | undefined> {
  return (await ifThere(stat(path)))?.ino;
}

function checkpointDamaged(record: SandboxRecord | undefined, dir: string, checkpoint: string): IfDamaged {
  if (record?.last_checkpoint === Number(checkpoint)) return { remedy: neededBy(record) };
  const remedy = 'It is an older state of its sandbox, which `perch fsck --repair` removes.';
  // A resume under way may go on from it.
  if (!(record && settled.includes(record.status))) return { remedy };
  return { remedy, remove: () => new SnapshotDirectory(join(dir, checkpoint)).remove() };
}

/** The sandboxes that go on from a state which is not whole, and the remedy. */
function neededBy({ id, kind, status }: SandboxRecord): string {
  if (kind !== 'sandbox')
    return 'It is of a guest that stands ready, which the next start of perch-host replaces.';
  if (status === 'paused')
    return `Sandbox ${id} goes on from it: resume or fork an older checkpoint (perch history ${id}), or destroy it.`;
  return `Sandbox ${id} runs and cannot be paused without it: save what is in it, then destroy it.`;
}

/** The checkpoint that a sandbox goes on from is there; else, looked at again when the sandbox changed meanwhile, a problem. */
async function missingCheckpoint({ journal, sandboxesDir }: StatesDeps, id: string) {
  for (;;) {
    const record = journal.get(id);
    // The state of a guest that was booted becomes a boot snapshot.
    if (!record || record.last_checkpoint === null || record.kind === 'boot') return undefined;
    if (record.status !== 'paused' && record.status !== 'running') return undefined;
    const path = join(sandboxesDir, id, `${record.last_checkpoint}`);
    try {
      if ((await inodeOf(path)) !== undefined) return undefined;
    } catch (error) {
      return notLookedAt(path, error);
    }
    if (isDeepStrictEqual(record, journal.get(id)))
      return { what: path, problem: 'It is missing.', remedy: neededBy(record) };
  }
}
