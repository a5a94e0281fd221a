/** Snapshots without memory: made of others, read, merged. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import {
  commitSnapshot,
  newBuildId,
  openSnapshot,
  readManifest,
  SnapshotDirectory,
  verifySnapshot,
} from '../../snapshot/index.ts';
import { facts, fillDirectory, temporaryDirectory } from '../../snapshot/testing.ts';
import { DiskRoom } from '../journal/disk-room.ts';
import { aMachine, FakeMachine } from '../testing.ts';
import type { Capture } from './capture.ts';
import { copyFlat } from './flat-copy.ts';
import { excessOf, mergeSnapshot } from './merge.ts';
import { SavedStates } from './saved-states.ts';

async function setUp() {
  const dir = await temporaryDirectory();
  const temporary = await fillDirectory(join(dir.path, 'new'));
  const final = new SnapshotDirectory(join(dir.path, 'made'));
  await commitSnapshot({ temporary, final, facts });
  const place = () => {
    const path = join(dir.path, newBuildId());
    return {
      ...{ temporary: new SnapshotDirectory(`${path}.new`), final: new SnapshotDirectory(path) },
      durable: false,
    };
  };
  return {
    ...{ whole: await openSnapshot(final), place },
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

test('a copy without memory shares the disk, and has nothing of a guest that runs', async () => {
  await using it = await setUp();
  const to = it.place();
  await copyFlat(it.whole, to, false);
  const { manifest, header, rootfs } = await verifySnapshot(to.final);
  expect(manifest).toMatchObject({ format_version: 2, kind: 'copy', memory: false });
  expect(manifest.parent).toBe(it.whole.manifest.build_id);
  expect({ header, rootfs }).toEqual({ header: null, rootfs: it.whole.rootfs });
  expect(Object.keys(manifest.files).sort()).toEqual([
    'identity.json',
    'rootfs.base',
    'rootfs.cow',
    'rootfs.meta',
  ]);
  const [ours, theirs] = [to.final, it.whole.directory].map((one) => stat(one.file('rootfs.cow')));
  expect((await ours)?.ino).toBe((await theirs)?.ino);
});

test('a copy of such a copy has no memory either, whatever is asked for', async () => {
  await using it = await setUp();
  const [first, second] = [it.place(), it.place()];
  await copyFlat(it.whole, first, false);
  await copyFlat(await openSnapshot(first.final), second);
  expect(await readManifest(second.final)).toMatchObject({ format_version: 2, memory: false });
});

test('there is no memory of it to merge, and its layers are merged as those of any other', async () => {
  await using it = await setUp();
  const [from, to] = [it.place(), it.place()];
  await copyFlat(it.whole, from, false);
  const snapshot = await openSnapshot(from.final);
  expect(await excessOf(snapshot, 0, true)).toMatchObject({ memory: false, layers: true });
  const steps = { mergeLayers: async () => {}, pace: async () => {} };
  expect(await mergeSnapshot(snapshot, { memory: true, layers: false }, to, steps)).toEqual({
    ...{ memoryBytes: 0, layerBytes: 0 },
  });
  expect((await verifySnapshot(to.final)).header).toBeNull();
});

test('a guest holds its disk for no longer than it takes to stop it: all else is done before', async () => {
  await using it = await setUp();
  const order: string[] = [];
  const step = (name: string) => async () => void order.push(name);
  const { disk } = new FakeMachine();
  const prepare = vi.spyOn(disk, 'prepareCapture');
  prepare.mockImplementation(async () => {
    order.push('prepare');
    return { holdStill: step('hold still'), write: async (parent) => parent };
  });
  const dir = it.place().final.path;
  const states = new SavedStates({
    ...{ dir, disks: disk, keep: 1, machine: aMachine, room: new DiskRoom({ dir, keepMb: 0 }) },
    baseImage: () => it.whole.directory.file('rootfs.base'),
  });
  const stopped = new Error('far enough');
  const freeze = async () => {
    order.push('freeze');
    throw stopped;
  };
  const capture = {
    record: { id: 'sb1', vm: 'sb1', last_checkpoint: null, rebooted: null, captures: 1, disk_mb: 64 },
    ...{ vm: { freeze }, dir, uid: 1, kind: 'pause', memory: false, durable: true, hold: step('hold') },
    signal: new AbortController().signal,
  } as unknown as Capture;
  await expect(states.capture(capture)).rejects.toBe(stopped);
  expect(order).toEqual(['prepare', 'hold', 'freeze']);
});
