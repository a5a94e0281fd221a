/** Snapshots without memory: made of others, read, merged. */
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
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
import { contentId, facts, fillDirectory, temporaryDirectory } from '../../snapshot/testing.ts';
import { DiskRoom } from '../journal/disk-room.ts';
import { aMachine, FakeMachine } from '../testing.ts';
import type { Capture } from './capture.ts';
import { copyFlat } from './flat-copy.ts';
import type { CapturedIdentity } from './identity.ts';
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

/** States over the image of `whole`, and a capture of a guest without memory, of which each step is put down. */
async function capturing({ whole, place }: Awaited<ReturnType<typeof setUp>>) {
  const order: string[] = [];
  const step = (name: string) => async () => void order.push(name);
  const { disk } = new FakeMachine();
  vi.spyOn(disk, 'prepareCapture').mockImplementation(async () => {
    order.push('prepare');
    return {
      holdStill: step('hold still'),
      async write(_, name) {
        const layer = name('uppermost');
        await writeFile(layer, 'layer');
        return { format: 'qcow2', base: whole.directory.file('rootfs.base'), layers: [layer] };
      },
    };
  });
  const dir = place().final.path;
  await mkdir(dir);
  const states = new SavedStates({
    ...{ dir, disks: disk, keep: 1, machine: aMachine, room: new DiskRoom({ dir, keepMb: 0 }) },
    baseImage: () => whole.directory.file('rootfs.base'),
  });
  const freeze = vi.fn(step('freeze'));
  const content = { base: contentId, kernel: contentId, initramfs: contentId };
  const capture = {
    record: {
      ...{ id: 'sb1', vm: 'sb1', template: 'base', last_checkpoint: null, rebooted: null, captures: 1 },
      ...{ vcpus: 1, memory_mb: 128, disk_mb: 64, ...content },
    },
    ...{ vm: { freeze }, dir, uid: 1, kind: 'pause', memory: false, durable: true, hold: step('hold') },
    identity: { accessToken: 'token', number: 1 },
    signal: new AbortController().signal,
  } as unknown as Capture;
  return { states, capture, freeze, order };
}

test('a manifest says whether there is an environment in its identity', async () => {
  await using it = await setUp();
  const { states, capture } = await capturing(it);
  const env = { NAME: 'value' };
  for (const [checkpoint, its, says] of [
    [1, {}, [undefined, undefined]],
    [2, { env }, [env, true]],
  ] as const) {
    const record = { ...capture.record, captures: checkpoint };
    await states.capture({ ...capture, record, identity: { ...capture.identity, ...its } });
    const directory = states.directory('sb1', checkpoint);
    const identity = JSON.parse(await readFile(directory.file('identity.json'), 'utf8')) as CapturedIdentity;
    expect([identity.env, (await readManifest(directory)).env]).toEqual(says);
  }
});

test('a guest holds its disk for no longer than it takes to stop it: all else is done before', async () => {
  await using it = await setUp();
  const { states, capture, freeze, order } = await capturing(it);
  const stopped = new Error('far enough');
  freeze.mockImplementation(async () => {
    order.push('freeze');
    throw stopped;
  });
  await expect(states.capture(capture)).rejects.toBe(stopped);
  expect(order).toEqual(['prepare', 'hold', 'freeze']);
});
