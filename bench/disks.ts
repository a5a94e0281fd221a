/** Disks of device-mapper by themselves, without guests: needs device-mapper, as `npm run lab` has it. */
import { randomBytes, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  createDeviceMapperDisks,
  deviceMapperLacks,
} from '../apps/host-agent/src/disk/device-mapper/index.ts';
import {
  makeSnapshotDevice,
  removeSnapshotDevice,
} from '../apps/host-agent/src/disk/device-mapper/snapshot-device.ts';
import type { DiskBackend, DiskSpec, DiskState } from '../apps/host-agent/src/disk/index.ts';
import { DiskPlaces, MiB, TestGuest } from '../apps/host-agent/src/disk/test-guest.ts';
import {
  attachLoop,
  copySparse,
  createDmDevice,
  type DeviceNumber,
  dmNames,
  dmTargets,
  findDmDevice,
  removeDmDevice,
  setWriteThrough,
} from '../apps/host-agent/src/linux/index.ts';
import type { HostMeasure } from './bench.ts';
import type { Measured } from './figures.ts';
import { inTurn, timed } from './in-turn.ts';

const turns = { n: 10, warmUp: 2 };
const sectorBytes = 512;

export const disks: HostMeasure = async (bench) => {
  const lacks = deviceMapperLacks();
  if (lacks !== undefined) {
    bench.progress(`disks of device-mapper are left out: ${lacks}`);
    return [];
  }
  return [...(await devices(bench)), await hundred(bench), await flatten(bench), await capture(bench)];
};

/** Disks of one measure, which go with it. */
class Disks implements AsyncDisposable {
  readonly instance = randomUUID().slice(0, 6);
  readonly backend: DiskBackend = createDeviceMapperDisks(this.instance);
  readonly places: DiskPlaces;
  readonly #made = new Set<DiskSpec>();

  constructor(sizeBytes: number) {
    this.places = new DiskPlaces(undefined, sizeBytes);
  }

  async make(from: DiskState = this.places.fromImage) {
    const spec = this.places.vm(randomUUID());
    this.#made.add(spec);
    return { spec, disk: await this.backend.create(spec, from) };
  }

  async remove(spec: DiskSpec): Promise<void> {
    await this.backend.remove(spec);
    this.#made.delete(spec);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const spec of this.#made) await this.backend.remove(spec);
    this.places[Symbol.dispose]();
  }
}

/** The devices of a disk against the bare calls of the kernel, over files that are there already and a base in use. */
async function devices({ signal, progress }: Parameters<HostMeasure>[0]): Promise<Measured[]> {
  progress('the devices of a disk, made and removed, against the bare calls of the kernel');
  const sizeBytes = 1024 * MiB;
  await using all = new Disks(sizeBytes);
  await all.make();
  const base = findDmDevice(dmNames().find((name) => name.startsWith(`perch-${all.instance}-base.`)) ?? '');
  if (!base) throw new Error('There is no base device.');
  const name = `perch-${all.instance}-one`;
  await using file = await open(all.places.file('store', '', 0o600), constants.O_RDWR);
  await file.truncate(sizeBytes + 128 * MiB);
  await using image = await open(all.places.image);
  const found = { fd: image.fd, stat: await image.stat({ bigint: true }) };
  const empty = () => file.write(Buffer.alloc(4096), 0, 4096, 0);
  const bare = async () => {
    await empty();
    return timed(async () => {
      using cow = attachLoop(file.fd, { readOnly: false, directIo: true, name });
      setWriteThrough(cow.device);
      const params = `${base.device} ${cow.device} PO 8 1 discard_zeroes_cow`;
      const target = { start: 0, length: sizeBytes / sectorBytes, type: 'snapshot', params };
      createDmDevice(name, [target], { readOnly: false });
      removeDmDevice(name);
    });
  };
  const ours = async () => {
    await empty();
    return timed(async () => {
      makeSnapshotDevice({ instance: all.instance, name, image: found, store: file.fd, sizeBytes });
      await removeSnapshotDevice(name);
    });
  };
  const disk = () =>
    timed(async () => {
      const { spec } = await all.make();
      await all.remove(spec);
    });
  const { samples, floor, whole } = await inTurn(
    { samples: ours, floor: bare, whole: disk },
    { ...turns, signal },
  );
  return [
    { name: 'disk: devices made and removed', unit: 'ms', samples, floor, targets: { ratio_p50: 1.5 } },
    { name: 'disk: made and removed', unit: 'ms', samples: whole },
  ];
}

/** The hundredth disk over one image against the first. */
async function hundred({ signal, progress }: Parameters<HostMeasure>[0]): Promise<Measured> {
  progress('100 disks over one image: the last against the first');
  const samples: number[] = [];
  const floor: number[] = [];
  for (let turn = -1; turn < 5; turn++) {
    signal.throwIfAborted();
    await using all = new Disks(16 * MiB);
    // The base device is there for the first, too.
    await all.make();
    const each: number[] = [];
    for (let i = 0; i < 100; i++) each.push(await timed(() => all.make()));
    assertOneLoop(all.instance);
    if (turn < 0) continue;
    floor.push(each[0] ?? 0);
    samples.push(each[99] ?? 0);
  }
  return {
    name: 'disk: the hundredth, by the first',
    unit: 'ms',
    samples,
    floor,
    targets: { ratio_p50: 1.3 },
  };
}

function assertOneLoop(instance: string): void {
  const bases = dmNames().filter((name) => name.startsWith(`perch-${instance}-base.`));
  const loops = new Set(
    bases.map((name) => dmTargets(name, 'table')?.[0]?.params.split(' ')[0] as DeviceNumber),
  );
  if (loops.size !== 1) throw new Error(`${loops.size} loop devices have the image.`);
}

/** 20 MiB changed of an image of 2 GiB that has 350, against a copy of 370 MiB in as many parts. */
async function flatten({ signal, progress }: Parameters<HostMeasure>[0]): Promise<Measured> {
  progress('flatten of 350 MiB and 20 changed, against a sparse copy of 370');
  const size = 2048 * MiB;
  await using all = new Disks(size);
  const image = await sparseFile(join(all.places.root, 'large'), size, 350);
  const plain = await sparseFile(join(all.places.root, 'plain'), size, 370);
  const { spec, disk } = await all.make({ format: 'image', image });
  const guest = new TestGuest(disk);
  guest.does(...Array.from({ length: 20 }, (_, i) => `write -P 1 ${i * 100 + 50}M 1M`));
  const stopped = await all.backend.prepareCapture(spec, undefined);
  const state = await stopped.write({ format: 'image', image }, () => join(all.places.root, 'state'));
  await all.remove(spec);
  await all.backend.settle(join(all.places.root, 'state'));
  const ours = async () => {
    const tool = all.places.tool(randomUUID());
    const ms = await timed(() => all.backend.flatten(state, tool));
    await rm(tool.dir, { recursive: true });
    return ms;
  };
  const copied = async () => {
    const path = join(all.places.root, 'copied');
    const ms = await timed(async () => {
      await using from = await open(plain);
      await using to = await open(path, 'wx+');
      await to.truncate(size);
      await copySparse(from, to, { at: 0, offset: 0, length: size });
      await to.sync();
    });
    await rm(path);
    return ms;
  };
  const { samples, floor } = await inTurn({ samples: ours, floor: copied }, { n: 5, warmUp: 1, signal });
  return { name: 'disk: flatten', unit: 'ms', samples, floor, targets: { ratio_p50: 1.3 } };
}

/** The time that a guest stands still for its disk: with 200 MiB written, against 2 MiB. */
async function capture({ signal, progress }: Parameters<HostMeasure>[0]): Promise<Measured> {
  progress(
    'capture of a disk with 200 MiB in its store, against one with 2: what the guest stands still for',
  );
  await using all = new Disks(512 * MiB);
  const frozen = async (mebibytes: number) => {
    const { spec, disk } = await all.make();
    const guest = new TestGuest(disk);
    guest.does(`write -P 1 16M ${mebibytes}M`);
    return async () => {
      // Between captures a guest writes.
      guest.does('write -P 2 16M 1M');
      const begun = await all.backend.prepareCapture(spec, guest);
      const ms = await timed(() => begun.holdStill());
      const path = join(all.places.root, randomUUID());
      await begun.write(all.places.fromImage, () => path);
      await rm(path);
      return ms;
    };
  };
  const [samplesOf, floorOf] = [await frozen(200), await frozen(2)];
  const { samples, floor } = await inTurn({ samples: samplesOf, floor: floorOf }, { ...turns, signal });
  return { name: 'disk: frozen for 200 MiB, by 2', unit: 'ms', samples, floor, targets: { ratio_p50: 1.2 } };
}

/** Mebibytes of data in it, in parts of one that lie apart. @returns its path, root's and 0444 */
async function sparseFile(path: string, size: number, mebibytes: number): Promise<string> {
  await using file = await open(path, 'wx', 0o444);
  await file.truncate(size);
  const step = Math.floor(size / MiB / mebibytes) * MiB;
  for (let i = 0; i < mebibytes; i++) await file.write(randomBytes(MiB), 0, MiB, i * step);
  await file.sync();
  return path;
}
