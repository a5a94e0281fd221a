/** No kernel with device-mapper is needed: its layers are read and made as files. */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, linkSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { processesOfUid } from '../linux/index.ts';
import type { LayeredState } from './changes.ts';
import { convertLayers } from './convert.ts';
import { flattenStore, readStore } from './device-mapper/exception-store/index.ts';
import { storeLayers } from './device-mapper/index.ts';
import { layersOf } from './disk.ts';
import { createQcow2Disks, qcow2Layers } from './qcow2/index.ts';
import { areSame, DiskPlaces, filenameOf, MiB, TestGuest } from './test-guest.ts';

const isRoot = process.getuid?.() === 0;
const disks = createQcow2Disks();

/** A qcow2 disk of which each list of commands has become a layer. */
async function stateOf(places: DiskPlaces, layers: readonly (readonly string[])[]): Promise<LayeredState> {
  let state: LayeredState = { format: 'qcow2', base: places.image, layers: [] };
  for (const commands of layers) {
    const spec = places.vm(randomUUID());
    const from = state.layers.length === 0 ? places.fromImage : state;
    const disk = await disks.create(spec, from);
    if (commands.length > 0) new TestGuest(disk).does(...commands);
    await disks.settle(disk.path);
    state = { ...state, layers: [...state.layers, disk.path] };
  }
  return state;
}

async function converted(places: DiskPlaces, state: LayeredState, format: LayeredState['format']) {
  let room = 0;
  const admit = async (bytes: number) => {
    room = bytes;
  };
  const tool = { ...places.tool(randomUUID()), admit };
  const layer = await convertLayers(state, format, tool);
  const { uid, mode, blocks } = statSync(layer);
  expect({ uid, mode: mode & 0o777 }).toEqual({ uid: 0, mode: 0o444 });
  expect(occupiedBy(tool.dir)).toBeLessThanOrEqual(room);
  expect(processesOfUid(tool.uid)).toEqual([]);
  return { state: { ...state, format, layers: [layer] } satisfies LayeredState, bytes: blocks * 512, room };
}

/** Bytes of the files that have no other name elsewhere. */
function occupiedBy(dir: string): number {
  const stats = readdirSync(dir).map((name) => statSync(join(dir, name)));
  return stats.reduce((sum, { nlink, blocks }) => sum + (nlink === 1 ? blocks * 512 : 0), 0);
}

/** All bytes of a disk. */
async function bytesOf(places: DiskPlaces, state: LayeredState): Promise<Buffer> {
  const path = join(places.root, `flat-${randomUUID()}`);
  if (state.format === 'qcow2') {
    const disk = await disks.create(places.vm(randomUUID()), state);
    execFileSync('qemu-img', ['convert', '-O', 'raw', filenameOf(disk, false), path]);
    return readFileSync(path);
  }
  await using flat = await open(path, 'wx+');
  await using base = await open(state.base);
  await using layer = await open(layersOf(state)[0] ?? '');
  await flattenStore(base, await readStore(layer, places.sizeBytes), flat);
  return readFileSync(path);
}

/** Its tables count each cluster once. */
function assertWhole(places: DiskPlaces, { layers }: LayeredState): void {
  const [layer = ''] = layers;
  linkSync(places.image, join(dirname(layer), 'base.ext4'));
  execFileSync('qemu-img', ['check', '-q', '-f', 'qcow2', layer]);
}

const bytesAt = fc.record({
  kind: fc.constantFrom('write -P 1', 'write -P 2', 'write -P 97', 'write -z -u', 'discard'),
  sector: fc.nat(64 * 2048 - 1),
  sectors: fc.integer({ min: 1, max: 3000 }),
});
const commands = fc
  .array(bytesAt, { maxLength: 8 })
  .map((list) =>
    list.map(
      ({ kind, sector, sectors }) => `${kind} ${sector * 512} ${Math.min(sectors, 64 * 2048 - sector) * 512}`,
    ),
  );

describe.runIf(isRoot)('layers of another format', () => {
  test('are made under the umask of a daemon, too', async () => {
    using places = new DiskPlaces();
    const state = await stateOf(places, [['write -P 1 20M 1M']]);
    const before = process.umask(0o077);
    try {
      const there = await converted(places, state, 'dm-snapshot');
      await converted(places, there.state, 'qcow2');
    } finally {
      process.umask(before);
    }
  });

  property.prop([fc.array(commands, { minLength: 1, maxLength: 3 })], { numRuns: 3 })(
    'are the same disk byte by byte, there and back',
    async (layers) => {
      using places = new DiskPlaces();
      const state = await stateOf(places, layers);
      const expected = await bytesOf(places, state);
      const there = await converted(places, state, 'dm-snapshot');
      expect((await bytesOf(places, there.state)).equals(expected)).toBe(true);
      const back = await converted(places, there.state, 'qcow2');
      assertWhole(places, back.state);
      expect((await bytesOf(places, back.state)).equals(expected)).toBe(true);
    },
  );

  test('occupy what differs from the image, and neither zeros nor what is the same', async () => {
    using places = new DiskPlaces();
    const state = await stateOf(places, [
      ['write -P 1 20M 1M', 'write -P 97 0 4M'],
      ['write -z 30M 8M', 'discard 4M 2M', 'write -P 2 40M 4k'],
    ]);
    const there = await converted(places, state, 'dm-snapshot');
    expect(there.bytes).toBeLessThan(1.3 * MiB);
    const back = await converted(places, there.state, 'qcow2');
    expect(back.bytes).toBeLessThan(1.6 * MiB);
  });
  test('are of a layer with clusters smaller than a block, too, and of many tables', async () => {
    using places = new DiskPlaces(undefined, 1536 * MiB);
    const path = places.file('foreign.qcow2', '');
    const options = `cluster_size=512,backing_file=${places.image},backing_fmt=raw`;
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, path, `${places.sizeBytes}`]);
    const writes = ['1536 512', '5M 1k', '6M 3584', '700M 4608', '1400M 128k', '1572863k 1k'];
    execFileSync('qemu-io', [...writes.flatMap((one) => ['-c', `write -P 5 ${one}`]), path]);
    chmodSync(path, 0o444);
    const state = { format: 'qcow2', base: places.image, layers: [path] } as const;
    const there = await converted(places, state, 'dm-snapshot');
    const back = await converted(places, there.state, 'qcow2');
    assertWhole(places, back.state);
    const [one, other] = [state, back.state].map(({ layers: [layer = ''] }) => ({
      ...({ kind: 'file', format: 'qcow2', path: layer, maxFileBytes: 0 } as const),
      below: [{ path: places.image, format: 'raw' } as const],
    }));
    if (!one || !other) throw new Error('There are two.');
    expect(areSame(one, other)).toBe(true);
  });

  test('are none of bytes that are no layer, of another disk, or that name other files', async () => {
    using places = new DiskPlaces();
    const of = (format: LayeredState['format'], path: string) => ({
      format,
      base: places.image,
      layers: [path],
    });
    const bad = places.file('bad', 'no layer');
    const store = convertLayers(of('dm-snapshot', bad), 'qcow2', places.tool('store'));
    await expect(store).rejects.toThrow('The exception store');
    const qcow2 = convertLayers(of('qcow2', bad), 'dm-snapshot', places.tool('qcow2'));
    await expect(qcow2).rejects.toThrow(/cannot be measured \(exit code 1\)/);
    const small = join(places.root, 'small.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', small, `${8 * MiB}`]);
    chmodSync(small, 0o444);
    const smaller = convertLayers(of('qcow2', small), 'dm-snapshot', places.tool('small'));
    await expect(smaller).rejects.toThrow('which parts of the disk');
    const secret = join(places.root, 'secret.qcow2');
    const size = `${places.sizeBytes}`;
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', secret, size]);
    execFileSync('qemu-io', ['-c', 'write -P 66 0 1M', secret]);
    const names = join(places.root, 'names.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', secret, '-F', 'qcow2', names, size]);
    chmodSync(names, 0o444);
    const { state } = await converted(places, of('qcow2', names), 'dm-snapshot');
    expect((await bytesOf(places, state)).subarray(0, MiB).includes(66)).toBe(false);
  });

  test('are admitted with the lists of a disk of which all is discarded', async () => {
    using places = new DiskPlaces(undefined, 1536 * MiB);
    const state = await stateOf(places, [['write -P 1 20M 1M']]);
    const there = await converted(places, state, 'dm-snapshot');
    const back = await converted(places, there.state, 'qcow2');
    const { sizeBytes } = places;
    await using base = await open(places.image);
    for (const [codec, { room }] of [
      [storeLayers, there],
      [qcow2Layers, back],
    ] as const) {
      await using file = await open(join(places.root, randomUUID()), 'wx+');
      // Past the end of a file there are zeros.
      const changes = { file, runs: [{ offset: 0, length: sizeBytes, at: 2 * sizeBytes }] };
      await codec.write(file, changes, base, places.tool(randomUUID()));
      expect(room).toBeGreaterThan((await file.stat()).blocks * 512);
    }
  });

  test('are not made over an image that is larger than the disk', async () => {
    using places = new DiskPlaces();
    const state = await stateOf(places, [[]]);
    const tool = { ...places.tool('tool'), sizeBytes: 4 * MiB };
    await expect(convertLayers(state, 'dm-snapshot', tool)).rejects.toThrow('smaller than its base');
  });

  test('are made with a rest before each few MiB when nobody waits, of either format', async () => {
    using places = new DiskPlaces();
    const state = await stateOf(places, [['write -P 1 12M 40M']]);
    let rests = 0;
    const rest = async () => void rests++;
    const tool = () => ({ ...places.tool(randomUUID()), rest });
    const layer = await convertLayers(state, 'dm-snapshot', tool());
    expect(rests).toBe(10);
    await convertLayers({ ...state, format: 'dm-snapshot', layers: [layer] }, 'qcow2', tool());
    expect(rests).toBe(20);
  });

  test('are given up at once', async () => {
    using places = new DiskPlaces();
    const state = await stateOf(places, [['write -P 1 0 8M']]);
    const there = await converted(places, state, 'dm-snapshot');
    const signal = AbortSignal.abort(new Error('enough'));
    const tool = (name: string) => ({ ...places.tool(name), signal });
    await expect(convertLayers(state, 'dm-snapshot', tool('one'))).rejects.toThrow('enough');
    await expect(convertLayers(there.state, 'qcow2', tool('other'))).rejects.toThrow('enough');
  });
});
