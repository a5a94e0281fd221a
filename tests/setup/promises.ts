/** The promises of a Perch whenever nothing is under way, whatever was killed before. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import type { HostSandbox, Sandbox } from '../../packages/protocol/src/index.ts';
import { entriesOf, halves, occupied, unowned } from './disk-blocks.ts';
import { eventually } from './eventually.ts';
import {
  daemonPid,
  footprint,
  footprintOf,
  hostSandboxes,
  monitors,
  openFilesOf,
  slotPool,
} from './machine.ts';
import type { PerchInstance } from './perch-instance.ts';
import { slowness } from './slowness.ts';

const atRest = new Set(['running', 'paused', 'failed']);
const waitMs = 60_000 * slowness;

/**
 * Waits until Perch is well and no sandbox is on its way, then holds API, journal, processes, networks, files and
 * blocks of the disk against each other.
 * @returns the sandboxes that there are
 */
export async function expectConsistent(instance: PerchInstance): Promise<Map<string, Sandbox>> {
  const sandboxes = await atRestOnBothSides(instance);
  const having = (status: Sandbox['status']) =>
    sandboxes.filter((sandbox) => sandbox.status === status).map(({ id }) => id);
  const slots = await expectFootprint(instance, having('running'));
  const { directories } = footprint(instance);
  await expect
    .poll(() => kinds(instance), { timeout: waitMs })
    .toEqual({
      ...{ 'nft table': 1, namespace: slots, link: slots, directory: directories.length },
      ...devicesOf(instance, directories.length),
    });
  // A merge of what is paused may be under way.
  await vi.waitFor(() => expectSnapshots(instance, sandboxes), { timeout: waitMs });
  await vi.waitFor(() => expectDisk(instance, sandboxes), { timeout: waitMs });
  await expect.poll(() => removedButOpen(instance.dataDir), { timeout: waitMs }).toEqual([]);
  for (const { id, status, reason } of sandboxes) {
    if (status === 'failed') expect(reason, `reason of ${id}`).toMatch(/\w/);
  }
  return new Map(sandboxes.map((sandbox) => [sandbox.id, sandbox]));
}

/**
 * Nothing is left of any sandbox or snapshot: what the disk holds of them is what it held before there was one.
 * @param before as `occupied` told it then; boot snapshots may have come and gone since
 */
export async function expectNothingLeft(
  instance: PerchInstance,
  before: Readonly<Record<string, number>>,
): Promise<void> {
  expect([...(await expectConsistent(instance)).keys()]).toEqual([]);
  const withoutBootSnapshots = (of: Readonly<Record<string, number>>) => ({
    ...of,
    'boot-snapshots': undefined,
  });
  expect(withoutBootSnapshots(occupied(entriesOf(instance.dataDir))), 'bytes on the disk').toEqual(
    withoutBootSnapshots(before),
  );
}

/** @returns how many slots there are */
async function expectFootprint(instance: PerchInstance, running: string[]): Promise<number> {
  const pool = Number(instance.env.PERCH_SLOT_POOL ?? slotPool);
  const standing = readyOf(instance);
  const held = footprintOf(...running);
  const slots = held.slots - slotPool + pool + standing;
  if (standing === 0) {
    await expect.poll(() => footprint(instance), { timeout: waitMs }).toEqual({ ...held, slots });
    return slots;
  }
  // A guest that was taken over has the name that it had when it stood ready.
  const look = () => {
    const { monitors, cgroups, directories, slots: now } = footprint(instance);
    const same = [cgroups, directories].every((names) => names.join() === monitors.join());
    return { same, machines: monitors.length, slots: now };
  };
  await expect
    .poll(look, { timeout: waitMs })
    .toEqual({ same: true, machines: running.length + standing, slots });
  return slots;
}

/** Guests that stand ready when there is room for them. */
function readyOf({ env }: PerchInstance): number {
  return Number(env.PERCH_READY ?? 0);
}

/** The sandboxes as the API has them, once the host agent has the same. */
async function atRestOnBothSides(instance: PerchInstance): Promise<Sandbox[]> {
  const { perch, dataDir } = instance;
  let seen: unknown;
  const look = async () => {
    const { status } = await perch.health();
    const [{ items }, onHost] = [await perch.sandboxes.list(), await hostSandboxes(dataDir)];
    const told = items.map(briefly).sort();
    const held = onHost.map(briefly).sort();
    seen = { status, told, held };
    const same = JSON.stringify(told) === JSON.stringify(held);
    // That a monitor has just ended is not noticed at once.
    const alive = monitors(dataDir);
    const lives = ({ id }: Sandbox) => alive.has(id) || readyOf(instance) > 0;
    const settled = items.every((one) => atRest.has(one.status) && (one.status !== 'running' || lives(one)));
    return status === 'ok' && same && settled && items;
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

/** Each machine has a device where disks are of device-mapper. */
function devicesOf({ env }: PerchInstance, machines: number): Record<string, number> {
  return env.PERCH_ROOTFS === 'device-mapper' && machines > 0 ? { 'disk device': machines } : {};
}

/** Processes of the database come and go. Loop devices and devices of images go with those of the last machine. */
const notCounted = new Set(['process', 'cgroup', 'snapshot', 'loop device']);

/** How many there are of what the leak check counts. */
async function kinds(instance: PerchInstance): Promise<Record<string, number>> {
  const counts: Record<string, number> = { directory: 0 };
  for (const { kind, name } of await instance.leaks()) {
    const isOfImage = kind === 'disk device' && name.startsWith(`perch-${instance.instance}-base.`);
    if (!notCounted.has(kind) && !isOfImage) counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** Nothing that was begun is left, and of each sandbox there is a state to go on from. */
function expectSnapshots(instance: PerchInstance, sandboxes: Sandbox[]): void {
  const { dataDir } = instance;
  const ids = sandboxes.map(({ id }) => id);
  const unowned = readdirSync(join(dataDir, 'sandboxes')).filter((id) => !ids.includes(id));
  // A guest that stands ready has the state that it began with.
  expect(unowned.length, `states that no sandbox has: ${unowned}`).toBe(readyOf(instance));
  for (const { id, status } of sandboxes) {
    // A failed sandbox may have failed before it had any.
    if (status === 'failed') continue;
    const checkpoints = readdirSync(join(dataDir, 'sandboxes', id));
    expect(checkpoints.length, `checkpoints of ${id}, which is ${status}`).toBeGreaterThan(0);
  }
}

/** Each file, each directory and each block on the disk is somebody's, or kept on purpose; and nothing is half. */
async function expectDisk({ dataDir, perch }: PerchInstance, sandboxes: Sandbox[]): Promise<void> {
  const ready = readdirSync(join(dataDir, 'sandboxes')).filter(
    (id) => !sandboxes.some((one) => one.id === id),
  );
  const owners = {
    machines: [...monitors(dataDir).keys()],
    sandboxes: [...sandboxes.map(({ id }) => id), ...ready],
    failed: sandboxes.filter(({ status }) => status === 'failed').map(({ id }) => id),
    snapshots: (await perch.snapshots.list({ type: 'snapshot' })).items.map(({ name }) => name),
  };
  const entries = entriesOf(dataDir);
  const left = unowned(entries, owners).map(({ path, bytes }) => `${path}, ${bytes} bytes`);
  expect(left, 'what nobody has on the disk').toEqual([]);
  expect(halves(entries, owners), 'snapshots without a manifest').toEqual([]);
}

/** Files that have no name any more take room on the disk as long as a process has them open. */
function removedButOpen(dataDir: string): string[] {
  const daemons = (['perch-host', 'perchd'] as const).map((name) => daemonPid(dataDir, name));
  const all = [...daemons, ...monitors(dataDir).values()].filter((pid) => pid !== undefined);
  return all.flatMap((pid) =>
    openFilesOf(pid).filter((path) => path.startsWith(`${dataDir}/`) && path.endsWith(' (deleted)')),
  );
}
