/** Holds what this host has against what its journal and its manifests say, while it works. */
import { existsSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { FsckFinding } from '@perch/protocol';
import { SnapshotDamaged, SnapshotDirectory, verifySnapshot, whileInPlace } from '../snapshot/index.ts';
import type { Journal } from './journal.ts';
import { endUnowned } from './sweep.ts';

export interface FsckDeps {
  journal: Journal;
  vmsDir: string;
  /** Directories with a snapshot in each of their directories. */
  sandboxesDir: string;
  snapshotsDir: string;
  warmDir: string;
}

/** What is being made has such a name, and is its maker's. */
const isBeingMade = (name: string) => name.startsWith('.');

/** @param repair removes what nobody owns or needs; never what a sandbox or a name stands for */
export async function fsck(deps: FsckDeps, repair: boolean): Promise<FsckFinding[]> {
  return [...(await unowned(deps, repair)), ...(await damaged(deps, repair))];
}

/**
 * Directories are listed before the journal is read, so that what is made meanwhile is in both or in none. What was
 * removed meanwhile has no directory any more when its entry is gone.
 */
async function unowned(deps: FsckDeps, repair: boolean): Promise<FsckFinding[]> {
  const [machines, states] = [await readdir(deps.vmsDir), await readdir(deps.sandboxesDir)];
  const records = deps.journal.list();
  const known = new Set(records.flatMap(({ id, vm }) => [id, vm]));
  const findings: FsckFinding[] = [];
  const add = async (path: string, what: string, remove: () => Promise<void>) => {
    if (!existsSync(path)) return;
    if (repair) await remove();
    findings.push({
      what: path,
      problem: `The journal has no sandbox for this ${what}.`,
      remedy: 'It is removed by `perch fsck --repair`, and by the next start of perch-host.',
      repaired: repair,
    });
  };
  for (const name of machines.filter((one) => !known.has(one) && !isBeingMade(one))) {
    const path = join(deps.vmsDir, name);
    await add(path, 'machine', () => endUnowned(path));
  }
  for (const name of states.filter((one) => !known.has(one) && !isBeingMade(one))) {
    const path = join(deps.sandboxesDir, name);
    await add(path, 'state', () => rm(path, { recursive: true, force: true }));
  }
  return findings;
}

async function damaged(deps: FsckDeps, repair: boolean): Promise<FsckFinding[]> {
  const verified = new Set<string>();
  const findings: FsckFinding[] = [];
  const check = async (path: string, remedy: string, expendable: boolean) => {
    const directory = new SnapshotDirectory(path);
    try {
      await whileInPlace(directory, () => verifySnapshot(directory, verified));
    } catch (error) {
      // One that was removed meanwhile is not damaged.
      if (!(error instanceof SnapshotDamaged) || (await directory.names()).length === 0) return;
      const repaired = repair && expendable;
      if (repaired) await directory.remove();
      findings.push({ what: path, problem: error.message, remedy, repaired });
    }
  };
  for (const { id } of deps.journal.list()) {
    const dir = join(deps.sandboxesDir, id);
    for (const point of (await readdir(dir).catch(() => [])).filter((name) => !isBeingMade(name))) {
      const isCurrent = deps.journal.get(id)?.snapshot === Number(point);
      const remedy = isCurrent
        ? `Sandbox ${id} goes on from it: resume or fork an older generation (perch history ${id}), or destroy it.`
        : 'It is an older state of its sandbox, which `perch fsck --repair` removes.';
      await check(join(dir, point), remedy, !isCurrent);
    }
  }
  for (const name of (await readdir(deps.snapshotsDir)).filter((one) => !isBeingMade(one))) {
    await check(join(deps.snapshotsDir, name), `Delete it: perch snapshot rm ${name}`, false);
  }
  for (const key of await readdir(deps.warmDir)) {
    await check(join(deps.warmDir, key), 'The next create of its shape boots another.', true);
  }
  return findings;
}
