/** Beside what every back end does: see ../contract.test.ts. Needs device-mapper, as a lab host has it. */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { canMake, SmallFileSystem } from '../../linux/file-system-testing.ts';
import {
  cloneFile,
  createDmDevice,
  type DeviceNumber,
  dmNames,
  dmTargets,
  fileOfLoop,
  findDmDevice,
  removeDmDevice,
} from '../../linux/index.ts';
import { DiskGone, type DiskSpec } from '../backend.ts';
import { chooseDisks } from '../choose.ts';
import { type DiskState, layersOf } from '../disk.ts';
import { DiskPlaces, MiB, TestGuest } from '../test-guest.ts';
import { createDeviceMapperDisks, deviceMapperFails, deviceMapperHolds, deviceMapperLacks } from './index.ts';

const instance = randomUUID().slice(0, 6);
const disks = createDeviceMapperDisks(instance);
const nameOf = (id: string) => `perch-${instance}-${id}`;
const bases = () => dmNames().filter((name) => name.startsWith(nameOf('base.')));

/** Places whose disks are removed with them. */
class Places extends DiskPlaces implements AsyncDisposable {
  readonly #specs: DiskSpec[] = [];

  async guest(id: string, from: DiskState = this.fromImage, change: Partial<DiskSpec> = {}) {
    const spec = { ...this.vm(id), ...change };
    this.#specs.push(spec);
    return { spec, guest: new TestGuest(await disks.create(spec, from)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const spec of this.#specs) await disks.remove(spec);
    this[Symbol.dispose]();
  }
}

/** Of a guest that runs on. */
async function captured(spec: DiskSpec, guest: TestGuest, parent: DiskState): Promise<DiskState> {
  const capture = await disks.prepareCapture(spec, guest);
  await capture.holdStill();
  return capture.write(parent, () => join(spec.dir, '..', `state-${randomUUID()}`));
}

describe.skipIf(deviceMapperLacks() !== undefined)('a disk of device-mapper', () => {
  test('shares one loop device with all over the same image, of any size, and the last takes it along', async () => {
    const loops = () => {
      const devices = bases().map((name) => dmTargets(name, 'table')?.[0]?.params.split(' ')[0]);
      return [...new Set(devices)] as DeviceNumber[];
    };
    {
      await using places = new Places();
      for (const id of ['one', 'two']) await places.guest(id);
      const { guest } = await places.guest('large', places.fromImage, { sizeBytes: 96 * MiB });
      expect(guest.has(0, 95)).toBe(true);
      expect(bases()).toHaveLength(2);
      expect(loops()).toHaveLength(1);
      const { dev, ino } = statSync(places.image, { bigint: true });
      const [loop = '0:0'] = loops();
      expect(fileOfLoop(loop)).toEqual({ dev, ino });
      await disks.remove(places.vm('one-more'));
      for (const id of ['one', 'large']) await disks.remove({ id, dir: join(places.root, `vm-${id}`) });
      expect(loops()).toEqual([loop]);
      await disks.remove({ id: 'two', dir: join(places.root, 'vm-two') });
      expect(bases()).toEqual([]);
      await expect.poll(() => fileOfLoop(loop)).toBe(undefined);
    }
  });

  test('is tried with what it needs of kernel and file system, also after a trial that was cut short', async () => {
    await using places = new Places();
    const [store, clone] = ['store', 'clone'].map((name) => openSync(join(places.root, name), 'w+')) as [
      number,
      number,
    ];
    const clones = cloneFile(store, clone);
    for (const file of [store, clone]) closeSync(file);
    const dir = join(places.root, 'trial');
    mkdirSync(dir);
    await disks.create({ ...places.vm('trial'), dir }, places.fromImage);
    await chooseDisks('qcow2', { instance, dir });
    expect(() => statSync(dir)).toThrow('ENOENT');
    const why = await deviceMapperFails(instance, dir);
    if (clones) expect(why).toBe(undefined);
    else expect(why).toContain('has no reflinks');
    expect(dmNames().filter((name) => name.startsWith(nameOf('')))).toEqual([]);
    expect(() => statSync(dir)).toThrow('ENOENT');
  });

  test('keeps a host from another kind of disk until its device is gone, whether its guest runs or not', async () => {
    await using places = new Places();
    const { spec } = await places.guest('one');
    const holds = () => deviceMapperHolds(instance, spec, false);
    expect(await holds()).toBe(true);
    await disks.remove(spec);
    expect(await holds()).toBe(false);
  });

  test('made over an image in whose place another was put has that, and the one before keeps its own', async () => {
    await using places = new Places();
    const { guest } = await places.guest('before');
    renameSync(places.file('other', Buffer.alloc(8 * MiB, 'b')), places.image);
    const { guest: later } = await places.guest('after');
    expect([guest.has(97, 3), later.has(98, 3)]).toEqual([true, true]);
  });

  test('leaves the number of its loop device as others expect it: flushes reach the disk', async () => {
    await using places = new Places();
    const { spec } = await places.guest('one');
    const cow = dmTargets(nameOf('one'), 'table')?.[0]?.params.split(' ')[1];
    const cache = () => readFileSync(`/sys/dev/block/${cow}/queue/write_cache`, 'utf8').trim();
    expect(cache()).toBe('write through');
    await disks.remove(spec);
    expect(cache()).toBe('write back');
  });

  test('keeps its loop devices when somebody takes them away, for as long as it is there', async () => {
    await using places = new Places();
    const { spec, guest } = await places.guest('one');
    const [base = '', cow = ''] = dmTargets(nameOf('one'), 'table')?.[0]?.params.split(' ') ?? [];
    expect(base).toBe(findDmDevice(bases()[0] ?? '')?.device);
    const image = dmTargets(bases()[0] ?? '', 'table')?.[0]?.params.split(' ')[0] ?? '';
    for (const loop of [cow, image]) execFileSync('losetup', ['--detach', `/dev/loop${loop.split(':')[1]}`]);
    guest.does('write -P 1 0 1M');
    expect([guest.has(1, 0), guest.has(97, 1)]).toEqual([true, true]);
    expect([disks.lossOf?.(spec), await disks.adopt(spec)]).toEqual([undefined, guest.disk]);
    await places.guest('two');
    expect(bases()).toHaveLength(1);
  });

  test('goes on from one store alone', async () => {
    await using places = new Places();
    const store = places.file('store', '');
    const several: DiskState = { format: 'dm-snapshot', base: places.image, layers: [store, store] };
    await expect(disks.create(places.vm('several'), several)).rejects.toThrow('one store over its image');
    expect(bases()).toEqual([]);
  });

  test('is not made where a device of its name is left, which is told with what removes it', async () => {
    await using places = new Places();
    const name = nameOf('stale');
    createDmDevice(name, [{ start: 0, length: 8, type: 'zero', params: '' }], { readOnly: false });
    const spec = places.vm('stale');
    await expect(disks.create(spec, places.fromImage)).rejects.toThrow(`dmsetup remove ${name}`);
    expect(dmTargets(name, 'table')?.[0]?.type).toBe('zero');
    removeDmDevice(name);
    expect(bases()).toEqual([]);
    expect(() => statSync(join(spec.dir, 'rootfs.cow'))).toThrow('ENOENT');
    await disks.create(spec, places.fromImage);
    await disks.remove(spec);
  });

  test('that somebody has open is not removed, which is told, and goes once nobody has', async () => {
    await using places = new Places();
    const { spec, guest } = await places.guest('held');
    const held = openSync(guest.disk.path, 'r');
    await expect(disks.remove(spec)).rejects.toThrow(`${nameOf('held')} is still open`);
    expect(findDmDevice(nameOf('held'))?.openCount).toBe(1);
    expect(await disks.adopt(spec)).toEqual(guest.disk);
    closeSync(held);
    await disks.remove(spec);
    expect(findDmDevice(nameOf('held'))).toBe(undefined);
  });

  test('is gone without its device, its store, or with another file in the place of that', async () => {
    await using places = new Places();
    const { spec, guest } = await places.guest('one');
    const store = join(spec.dir, 'rootfs.cow');
    renameSync(store, `${store}.away`);
    await expect(disks.adopt(spec)).rejects.toThrow(DiskGone);
    writeFileSync(store, 'another');
    await expect(disks.adopt(spec)).rejects.toThrow('is not the file that the device');
    const capture = await disks.prepareCapture(spec, undefined);
    const target = join(places.root, 'state');
    await expect(capture.write(places.fromImage, () => target)).rejects.toThrow(DiskGone);
    expect(() => statSync(target)).toThrow('ENOENT');
    renameSync(`${store}.away`, store);
    expect(await disks.adopt(spec)).toEqual(guest.disk);
    removeDmDevice(nameOf('one'));
    await expect(disks.adopt(spec)).rejects.toThrow(`there is no device ${nameOf('one')}`);
  });

  test('whose store the kernel could not write to is gone, with that reason', async () => {
    await using places = new Places();
    const { spec, guest } = await places.guest('one');
    guest.does('write -P 1 0 1M');
    // Its end is away: what the kernel writes there it cannot read back, and the loop device refuses it.
    truncateSync(join(spec.dir, 'rootfs.cow'), 2 * MiB);
    const [, cow] = dmTargets(nameOf('one'), 'table')?.[0]?.params.split(' ') ?? [];
    execFileSync('losetup', ['--set-capacity', `/dev/loop${cow?.split(':')[1]}`]);
    expect(() => guest.does('write -P 2 8M 8M')).toThrow();
    expect(disks.lossOf?.(spec)?.message).toContain('has given it up');
    await expect(disks.adopt(spec)).rejects.toThrow('has given it up');
  });

  test('goes on from no store that is damaged, or of another length of chunks', async () => {
    await using places = new Places();
    const bad = places.file('bad', Buffer.alloc(MiB, 'x'));
    const from = (layer: string) => ({ format: 'dm-snapshot', base: places.image, layers: [layer] }) as const;
    await expect(disks.create(places.vm('one'), from(bad))).rejects.toThrow('does not begin with SnAp');
    const header = Buffer.alloc(MiB);
    for (const [i, word] of [0x70416e53, 1, 1, 16].entries()) header.writeUInt32LE(word, i * 4);
    const coarse = places.file('coarse', header);
    await expect(disks.create(places.vm('two'), from(coarse))).rejects.toThrow('has chunks of 8192 bytes');
    expect([bases(), findDmDevice(nameOf('one'))]).toEqual([[], undefined]);
  });

  test('that is paused gives back the room that it did not use', async () => {
    await using places = new Places();
    const { spec, guest } = await places.guest('one');
    guest.does('write -P 1 0 4M');
    const capture = await disks.prepareCapture(spec, undefined);
    const state = await capture.write(places.fromImage, () => join(places.root, 'state'));
    await disks.remove(spec);
    const path = layersOf(state)[0] ?? '';
    expect(statSync(path).blocks * 512).toBeGreaterThan(places.sizeBytes);
    await disks.settle(path);
    expect(statSync(path).blocks * 512).toBeLessThan(5 * MiB);
    const { guest: next } = await places.guest('two', state);
    expect(next.has(1, 3)).toBe(true);
  });

  describe.each(['ext4', 'xfs'] as const)('on a full host, on %s,', (type) => {
    test.runIf(canMake(type))('has room for all that is new, and tells of the rest', async () => {
      using disk = new SmallFileSystem(type);
      await using places = new Places(disk.path);
      const { spec, guest } = await places.guest('one');
      guest.does('write -P 1 0 4M', 'write -P 2 8M 4M');
      const alone = await disks.takenBytes(spec);
      expect(await disks.copyBytes(spec)).toBeGreaterThan(8 * MiB);
      const state = await captured(spec, guest, places.fromImage);
      // What it shares takes room when it is written again.
      expect(alone - (await disks.takenBytes(spec)) >= 8 * MiB).toBe(type === 'xfs');
      // Of the room that was taken it has what is used.
      expect(statSync(layersOf(state)[0] ?? '').blocks * 512).toBeLessThan(10 * MiB);
      const clones = type === 'xfs';
      guest.does('discard 8M 4M');
      const filler = fill(disk.path);
      // Chunks that were never written, and the notes of them: two areas.
      guest.does('write -P 3 16M 4M', 'write -P 4 63M 1M');
      // Chunks that the state has too, or that were given back.
      const again = () => guest.does(clones ? 'write -P 5 0 4M' : 'write -P 5 8M 4M');
      expect(again).toThrow();
      expect(await disks.adopt(spec)).toEqual(guest.disk);
      expect([guest.has(3, 17), guest.has(4, 63)]).toEqual([true, true]);
      await expect(places.guest('two')).rejects.toThrow('ENOSPC');
      expect(findDmDevice(nameOf('two'))).toBe(undefined);
      rmSync(filler);
      again();
      expect(guest.has(5, clones ? 1 : 9)).toBe(true);
      const { guest: reader } = await places.guest('reader', state);
      expect([reader.has(1, 1), reader.has(2, 9), reader.has(0, 17)]).toEqual([true, true, true]);
    });
  });
});

describe.runIf(process.env.PERCH_LAB === '1')('a kernel without the module', () => {
  test('lacks disks of device-mapper, and is told what loads it', async () => {
    const loader = '/proc/sys/kernel/modprobe';
    const before = readFileSync(loader, 'utf8');
    execFileSync('rmmod', ['dm_snapshot']);
    writeFileSync(loader, '/bin/false\n');
    try {
      expect(deviceMapperLacks()).toContain('modprobe dm_snapshot');
      const choice = chooseDisks('device-mapper', { instance, dir: '/nowhere' });
      await expect(choice).rejects.toThrow('modprobe dm_snapshot');
    } finally {
      writeFileSync(loader, before);
    }
    expect(deviceMapperLacks()).toBe(undefined);
  });
});

/** Takes all the room of a file system. @returns the file that has it */
function fill(dir: string): string {
  const path = join(dir, 'filler');
  const fd = openSync(path, 'w');
  try {
    const bytes = Buffer.alloc(MiB, 'x');
    for (const step of [MiB, 64 * 1024, 4096]) {
      for (;;) {
        try {
          if (writeSync(fd, bytes.subarray(0, step)) < step) break;
        } catch {
          break;
        }
      }
    }
  } finally {
    closeSync(fd);
  }
  execFileSync('sync', ['--file-system', dir]);
  expect(statfsSync(dir).bavail * statfsSync(dir).bsize).toBeLessThan(2 * MiB);
  return path;
}
