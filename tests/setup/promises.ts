/** What holds of a Perch whenever nothing is under way, whatever was killed before. */
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import type { HostSandbox, Sandbox } from '../../packages/protocol/src/index.ts';
import { eventually } from './eventually.ts';
import { daemonPid, footprint, footprintOf, hostSandboxes, slotPool } from './machine.ts';
import type { PerchInstance } from './perch-instance.ts';

const atRest = new Set(['running', 'paused', 'failed']);
const waitMs = 60_000;

/**
 * Waits until Perch is well and no sandbox is on its way, then holds API, journal, processes, networks and files
 * against each other.
 * @returns the sandboxes that there are
 */
export async function expectConsistent(instance: PerchInstance): Promise<Map<string, Sandbox>> {
  const sandboxes = await atRestOnBothSides(instance);
  const having = (status: Sandbox['status']) =>
    sandboxes.filter((sandbox) => sandbox.status === status).map(({ id }) => id);
  const held = footprintOf(...having('running'));
  const ready = Number(instance.env.PERCH_SLOT_POOL ?? slotPool);
  const holding = { ...held, slots: held.slots - slotPool + ready };
  await expect.poll(() => footprint(instance), { timeout: waitMs }).toEqual(holding);
  await expect
    .poll(() => kinds(instance), { timeout: waitMs })
    .toEqual({
      'nft table': 1,
      namespace: holding.slots,
      link: holding.slots,
      directory: holding.directories.length,
    });
  // A merge of what is paused may be under way.
  await vi.waitFor(() => expectSnapshots(instance.dataDir, sandboxes), { timeout: waitMs });
  await expect.poll(() => removedButOpen(instance.dataDir), { timeout: waitMs }).toEqual([]);
  for (const { id, status, reason } of sandboxes) {
    if (status === 'failed') expect(reason, `reason of ${id}`).toMatch(/\w/);
  }
  return new Map(sandboxes.map((sandbox) => [sandbox.id, sandbox]));
}

/** The sandboxes as the API has them, once the host agent has the same. */
async function atRestOnBothSides({ perch, dataDir }: PerchInstance): Promise<Sandbox[]> {
  let seen: unknown;
  const look = async () => {
    const { status } = await perch.health();
    const [{ items }, onHost] = [await perch.sandboxes.list(), await hostSandboxes(dataDir)];
    const told = items.map(briefly).sort();
    const held = onHost.map(briefly).sort();
    seen = { status, told, held };
    const same = JSON.stringify(told) === JSON.stringify(held);
    return status === 'ok' && same && items.every((one) => atRest.has(one.status)) && items;
  };
  try {
    return await eventually(() => look().catch(() => false as const), waitMs);
  } catch (cause) {
    throw new Error(`API and host agent do not come to agree: ${JSON.stringify(seen)}`, { cause });
  }
}

function briefly({ id, status }: Sandbox | HostSandbox): string {
  return `${id} ${status}`;
}

/** How many there are of what the leak check counts, but for processes: those of the database come and go. */
async function kinds(instance: PerchInstance): Promise<Record<string, number>> {
  const counts: Record<string, number> = { directory: 0 };
  for (const { kind } of await instance.leaks()) {
    if (kind !== 'process' && kind !== 'cgroup' && kind !== 'snapshot')
      counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** Nothing that was begun is left, and of each sandbox there is a state to go on from. */
function expectSnapshots(dataDir: string, sandboxes: Sandbox[]): void {
  const ids = sandboxes.map(({ id }) => id);
  const unowned = readdirSync(join(dataDir, 'sandboxes')).filter((id) => !ids.includes(id));
  expect(unowned, 'states that no sandbox has').toEqual([]);
  for (const { id, status } of sandboxes) {
    // One that failed may have failed before it had any.
    if (status === 'failed') continue;
    const points = readdirSync(join(dataDir, 'sandboxes', id));
    expect(points.length, `points of ${id}, which is ${status}`).toBeGreaterThan(0);
    const begun = points.filter((name) => !/^\d+$/.test(name));
    expect(begun, `points of ${id}, which is ${status}`).toEqual([]);
  }
  const hidden = readdirSync(join(dataDir, 'snapshots')).filter((name) => name.startsWith('.'));
  expect(hidden, 'snapshots that were begun').toEqual([]);
  const begun = readdirSync(join(dataDir, 'warm')).filter((name) => !/^[0-9a-f]{32}$/.test(name));
  expect(begun, 'warm templates that were begun').toEqual([]);
}

/** Files that have no name any more take room on the disk as long as the host agent has them open. */
function removedButOpen(dataDir: string): string[] {
  const pid = daemonPid(dataDir, 'perch-host');
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/${pid}/fd/${fd}`);
      return path.startsWith(`${dataDir}/`) && path.endsWith(' (deleted)') ? [path] : [];
    } catch {
      return [];
    }
  });
}
