/** The behaviour of every disk back end, on those that this machine can have. */
import { randomUUID } from 'node:crypto';
import { chmodSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type DiskBackend, DiskGone, type DiskSpec } from './backend.ts';
import { diskKinds } from './choose.ts';
import { type DiskState, imageOf, layersOf } from './disk.ts';
import { areSame, DiskPlaces, MiB, TestGuest } from './test-guest.ts';

/** Another test run on this machine may have devices, too. */
const instance = randomUUID().slice(0, 6);
const isRoot = process.getuid?.() === 0;
const backends = Object.entries(diskKinds).filter(([, { lacks }]) => lacks() === undefined);

describe.runIf(isRoot).each(backends)('the disk back end %s', (_, kind) => {
  const create = () => kind.create(instance);

  /** A back end, and places for disks of it. All that is left outside of them goes with them. */
  function setUp() {
    const places = new DiskPlaces();
    const disks = create();
    const ids: string[] = [];
    return {
      ...{ places, disks },
      async guest(id: string, from: DiskState = places.fromImage) {
        const spec = places.vm(id);
        ids.push(id);
        return { spec, guest: new TestGuest(await disks.create(spec, from)) };
      },
      /** A guest that goes on from a state for as long as it is looked at. */
      async reader(state: DiskState) {
        return (await this.guest(randomUUID(), state)).guest;
      },
      async [Symbol.asyncDispose]() {
        for (const id of ids) await disks.remove({ id, dir: join(places.root, `vm-${id}`) });
        places[Symbol.dispose]();
      },
    };
  }

  /** Captures the disk of a guest that stays stopped, or runs on as `runsOn`. */
  async function capture(
    disks: DiskBackend,
    { spec, parent, runsOn }: { spec: DiskSpec; parent: DiskState; runsOn?: TestGuest },
  ): Promise<DiskState> {
    const capture = await disks.prepareCapture(spec, runsOn);
    if (runsOn) await capture.holdStill();
    // Written after it stands still, and before it has names.
    runsOn?.does('write -P 255 40M 1M');
    const named: string[] = [];
    const state = await capture.write(parent, (place) => {
      named.push(place);
      return join(spec.dir, '..', `state-${randomUUID()}`);
    });
    expect(named.indexOf('uppermost')).toBe(named.length - 1);
    if (!runsOn) {
      await disks.remove(spec);
      await disks.settle(layersOf(state).at(-1) ?? '');
      await disks.settle(layersOf(state).at(-1) ?? '');
    }
    expect(state.format).toBe(disks.capabilities.format);
    for (const path of layersOf(state)) {
      const { uid, mode } = statSync(path);
      expect({ uid, mode: mode & 0o777 }).toEqual({ uid: 0, mode: 0o444 });
    }
    return state;
  }

  test('makes a disk of the size asked for, which begins with an image that nobody changes', async () => {
    await using it = setUp();
    const { guest } = await it.guest('one');
    expect(guest.disk.kind).toBe(it.disks.capabilities.opens);
    expect(guest.has(97, 0)).toBe(true);
    expect(guest.has(0, 8)).toBe(true);
    guest.does('write -P 1 0 1M', 'write -P 2 63M 1M', 'discard 4M 1M');
    expect([guest.has(1, 0), guest.has(97, 1), guest.has(2, 63)]).toEqual([true, true, true]);
    expect(readFileSync(it.places.image).equals(Buffer.alloc(8 * MiB, 'a'))).toBe(true);
  });

  test('never makes a disk twice, and the second attempt leaves the first alone', async () => {
    await using it = setUp();
    const { spec, guest } = await it.guest('one');
    guest.does('write -P 1 0 1M');
    await expect(it.disks.create(spec, it.places.fromImage)).rejects.toThrow();
    expect(await it.disks.adopt(spec)).toEqual(guest.disk);
    expect(guest.has(1, 0)).toBe(true);
  });

  test('makes nothing over an image that is larger, or that its VM could write or not read', async () => {
    await using it = setUp();
    const spec = it.places.vm('one');
    const { image } = it.places;
    const from = it.places.fromImage;
    await expect(it.disks.create({ ...spec, sizeBytes: 4 * MiB }, from)).rejects.toThrow(/smaller than/);
    chmodSync(image, 0o644);
    await expect(it.disks.create(spec, from)).rejects.toThrow(/not 444/);
    chmodSync(image, 0o400);
    await expect(it.disks.create(spec, from)).rejects.toThrow(/not 444/);
    await expect(it.disks.adopt(spec)).rejects.toThrow(DiskGone);
    expect(statSync(image).nlink).toBe(1);
  });

  test('makes nothing of layers that another back end wrote', async () => {
    await using it = setUp();
    const { format } = it.disks.capabilities;
    const other = format === 'qcow2' ? 'dm-snapshot' : 'qcow2';
    const state = { format: other, base: it.places.image, layers: [it.places.file('cow', 'x')] } as const;
    await expect(it.disks.create(it.places.vm('one'), state)).rejects.toThrow(`format ${other}`);
  });

  test('finds a disk again as it is, and says when it is gone', async () => {
    await using it = setUp();
    const { spec, guest } = await it.guest('one');
    expect(await create().adopt(spec)).toEqual(guest.disk);
    await capture(it.disks, { spec, parent: it.places.fromImage, runsOn: guest });
    expect(await create().adopt(spec)).toEqual(guest.disk);
    await it.disks.remove(spec);
    await it.disks.remove(spec);
    await expect(it.disks.adopt(spec)).rejects.toThrow(DiskGone);
    expect(statSync(it.places.image).nlink).toBe(1);
  });

  test('has a disk that is captured go on in others, which do not see what the others write', async () => {
    await using it = setUp();
    const { spec, guest } = await it.guest('one');
    guest.does('write -P 1 0 1M', 'write -P 2 20M 1M');
    const state = await capture(it.disks, { spec, parent: it.places.fromImage });
    expect(statSync(imageOf(state)).ino).toBe(statSync(it.places.image).ino);
    const [first, second] = [await it.reader(state), await it.reader(state)];
    first.does('write -P 3 20M 1M', 'discard 0 1M');
    expect([second.has(1, 0), second.has(97, 1), second.has(2, 20)]).toEqual([true, true, true]);
    expect(first.has(3, 20)).toBe(true);
  });

  test('has a disk that is captured stand still there while its guest writes on', async () => {
    await using it = setUp();
    const { spec, guest } = await it.guest('one');
    const states: DiskState[] = [];
    for (const byte of [1, 2, 3]) {
      guest.does(`write -P ${byte} 20M 1M`, `write -P ${byte} ${20 + byte}M 1M`);
      const parent = states.at(-1) ?? it.places.fromImage;
      states.push(await capture(it.disks, { spec, parent, runsOn: guest }));
      guest.does('write -P 0 40M 1M');
    }
    guest.does('write -P 9 20M 1M');
    for (const [i, state] of states.entries()) {
      const reader = await it.reader(state);
      expect([reader.has(i + 1, 20), reader.has(0, 40), reader.has(97, 0)]).toEqual([true, true, true]);
    }
    // A pause after it, and one of which a copy has taken nothing.
    const paused = await capture(it.disks, { spec, parent: states[1] ?? it.places.fromImage });
    const reader = await it.reader(paused);
    expect([9, 1, 2, 3].map((byte, i) => reader.has(byte, 20 + i))).toEqual([true, true, true, true]);
    const [one, two] = [states[0], states[1]];
    const shared = one && two ? layersOf(one).every((path) => layersOf(two).includes(path)) : false;
    expect(shared).toBe(it.disks.capabilities.sharesLayers);
  });

  test('asks the monitor of a guest that runs on to write elsewhere, or clones', async () => {
    await using it = setUp();
    const { spec, guest } = await it.guest('one');
    const before = guest.disk;
    await capture(it.disks, { spec, parent: it.places.fromImage, runsOn: guest });
    expect(guest.disk === before ? 'clone' : 'switch').toBe(it.disks.capabilities.online);
  });

  test('tells what room was taken, which is within what was promised', async () => {
    await using it = setUp();
    const place = { id: 'none', dir: join(it.places.root, 'none') };
    expect(await it.disks.takenBytes(place)).toBe(0);
    const { spec, guest } = await it.guest('one');
    const promised = it.disks.promisedBytes(spec.sizeBytes);
    expect(promised).toBeGreaterThanOrEqual(spec.sizeBytes);
    const empty = await it.disks.takenBytes(spec);
    guest.does('write -P 1 0 10M');
    const taken = await it.disks.takenBytes(spec);
    if (it.disks.capabilities.takesRoom === 'ahead') {
      expect(empty).toBeGreaterThanOrEqual(promised);
      expect(taken).toBeLessThan(promised + MiB);
      return;
    }
    expect(empty).toBeLessThan(MiB);
    expect(taken - empty).toBeGreaterThanOrEqual(10 * MiB);
    expect(taken).toBeLessThan(11 * MiB);
  });

  test('flattens a disk into an image of the same bytes, and merges what is to be merged', async () => {
    await using it = setUp();
    const { spec, guest } = await it.guest('one');
    guest.does('write -P 1 0 1M', 'write -P 2 20M 2M');
    const below = await capture(it.disks, { spec, parent: it.places.fromImage, runsOn: guest });
    guest.does('write -P 3 21M 1M', 'write -z -u 0 64k', 'write -P 0 40M 1M');
    const state = await capture(it.disks, { spec, parent: below });
    const { disk } = await it.reader(state);
    const flat = await it.disks.flatten(state, it.places.tool('flatten'));
    expect(areSame(disk, (await it.reader({ format: 'image', image: flat })).disk)).toBe(true);
    expect(statSync(flat)).toMatchObject({ uid: 0, size: spec.sizeBytes });
    expect(statSync(flat).blocks * 512).toBeLessThan(16 * MiB);
    expect(await it.disks.mergeNeed(it.places.fromImage, spec.sizeBytes, 0)).toBe(undefined);
    expect(await it.disks.mergeNeed(state, spec.sizeBytes)).toBe(undefined);
    expect(await it.disks.mergeNeed(state, spec.sizeBytes, 100)).toBe(undefined);
    const need = await it.disks.mergeNeed(state, spec.sizeBytes, 1);
    expect(need).toBe(it.disks.capabilities.sharesLayers ? 'soon' : undefined);
    if (need === undefined || state.format === 'image') return;
    const merged = { ...state, layers: [await it.disks.merge(state, it.places.tool('merge'))] };
    expect(areSame(disk, (await it.reader(merged)).disk)).toBe(true);
    expect(await it.disks.mergeNeed(merged, spec.sizeBytes, 1)).toBe(undefined);
  });

  test('leaves nothing outside of the directories of VMs that a start would not find', async () => {
    await using it = setUp();
    const { spec } = await it.guest('one');
    const mine = async (owned: string[]) =>
      (await it.disks.unowned(() => new Set(owned))).filter(({ what }) => what.includes('one'));
    expect(await mine(['one'])).toEqual([]);
    rmSync(spec.dir, { recursive: true });
    for (const left of await mine([])) await left.remove();
    expect(await mine([])).toEqual([]);
  });
});
