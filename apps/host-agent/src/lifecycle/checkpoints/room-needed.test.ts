/** Every write needs room on the disk, and is refused at one block less, before any of it is written. */
import { access, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { commitSnapshot, openSnapshot, SnapshotDirectory } from '../../snapshot/index.ts';
import { facts, fillDirectory, temporaryDirectory } from '../../snapshot/testing.ts';
import { DiskRoom } from '../journal/disk-room.ts';
import type { SandboxRecord } from '../journal/journal.ts';
import { aMachine, FakeMachine } from '../testing.ts';
import { flattenSnapshot } from './flatten.ts';
import { checkpointMerger } from './merge-checkpoint.ts';
import { SavedStates } from './saved-states.ts';

const MiB = 2 ** 20;
const block = 4096;
const record = { id: 'sb1', memory_mb: 128 } as SandboxRecord;
const refused = { code: 'capacity_exhausted', details: { resource: 'disk' } };
const isRoot = process.getuid?.() === 0;

/** A file system on which so much is free, of which some shall stay free. */
function roomOf(freeBytes: number, keepMb = 0): DiskRoom {
  const statfs = async () => ({ bavail: freeBytes / block, bsize: block });
  return new DiskRoom({ dir: '/', keepMb, statfs });
}

function statesOn(room: DiskRoom): SavedStates {
  const { disk: disks } = new FakeMachine();
  return new SavedStates({
    ...{ dir: '/nowhere', disks, room, machine: aMachine, baseImage: () => undefined, keep: 1 },
  });
}

/** Of a guest's memory has changed. */
const unsaved = 10 * MiB;
/** Device state, headers, manifest, what changes meanwhile. */
const rest = 64 * MiB;

test('a pause needs room for what has changed, of which nothing has to stay free', async () => {
  const needed = unsaved + rest;
  await statesOn(roomOf(needed, 1024)).assertRoom(record, unsaved);
  await expect(statesOn(roomOf(needed - block)).assertRoom(record, unsaved)).rejects.toMatchObject(refused);
});

test('a copy needs room for all memory that it has, and for what has changed of one that runs, beside what stays free', async () => {
  const kept = 1024 * MiB;
  for (const [of, memory, needed] of [
    [0, true, 128 * MiB + rest],
    [unsaved, true, 128 * MiB + unsaved + rest],
    [unsaved, false, unsaved + rest],
  ] as const) {
    await statesOn(roomOf(needed + kept, 1024)).assertCopyRoom(record, of, memory);
    const short = statesOn(roomOf(needed + kept - block, 1024));
    await expect(short.assertCopyRoom(record, of, memory)).rejects.toMatchObject(refused);
  }
});

/** A snapshot with a layer, and places for another. */
async function snapshotIn(dir: string) {
  const temporary = await fillDirectory(join(dir, 'temporary'));
  const final = new SnapshotDirectory(join(dir, 'final'));
  await commitSnapshot({ temporary, final, facts });
  const [next, made] = ['next', 'made'].map((name) => new SnapshotDirectory(join(dir, name)));
  if (!next || !made) throw new Error('no places');
  const vmsDir = join(dir, 'vms');
  await mkdir(vmsDir);
  return {
    snapshot: await openSnapshot(final),
    target: { temporary: next, final: made, durable: false },
    vmsDir,
  };
}

test.runIf(isRoot)('a flattened disk needs room for the image and its layers', async () => {
  await using dir = await temporaryDirectory();
  const { snapshot, target, vmsDir } = await snapshotIn(dir.path);
  const machine = new FakeMachine();
  machine.disk.flatten = async (_, { dir }) => {
    const path = join(dir, 'flat');
    await writeFile(path, 'flat');
    return path;
  };
  const needed = await snapshot.directory.bytesOf(['rootfs.base', 'rootfs.cow', 'rootfs.meta']);
  const deps = { disks: machine.disk, network: machine.network(), vmsDir };
  const short = flattenSnapshot(snapshot, target, { ...deps, room: roomOf(needed - block) });
  await expect(short).rejects.toMatchObject(refused);
  expect(await readdir(vmsDir)).toEqual([]);
  await expect(access(target.temporary.path)).rejects.toMatchObject({ code: 'ENOENT' });
  await flattenSnapshot(snapshot, target, { ...deps, room: roomOf(needed) });
  expect(await target.final.names()).toContain('rootfs.ext4');
});

test.runIf(isRoot)('a merge needs room for all memory and for the layers', async () => {
  await using dir = await temporaryDirectory();
  const { snapshot, vmsDir } = await snapshotIn(dir.path);
  const machine = new FakeMachine();
  machine.isFull = true;
  machine.disk.merge = async (_, { dir }) => {
    const path = join(dir, 'merged');
    await writeFile(path, 'merged', { mode: 0o444 });
    return path;
  };
  const scratch = join(dir.path, 'scratch');
  const saved = {
    ...machine.saved,
    directory: () => snapshot.directory,
    scratch: async () => {
      await mkdir(scratch, { recursive: true });
      return { path: scratch, [Symbol.asyncDispose]: async () => {} };
    },
  };
  // Of four pages of the file that is mapped one is zeros by now, and one is stored anew.
  const needed = 3 * block + (await snapshot.directory.bytesOf(['rootfs.cow', 'rootfs.meta']));
  const deps = { disks: machine.disk, network: machine.network(), vmsDir, saved };
  const bounds = { memoryPercent: 0, layers: 8 };
  const { signal } = new AbortController();
  const short = checkpointMerger({ ...deps, bounds, room: roomOf(needed - block) });
  await expect(short(record, 1, signal)).rejects.toMatchObject(refused);
  expect(await readdir(scratch)).toEqual([]);
  const enough = checkpointMerger({ ...deps, bounds, room: roomOf(needed) });
  await using made = await enough(record, 1, signal);
  expect(made?.merged).toMatchObject({ memoryBytes: 3 * block });
});
