/** Beside what every back end does: see ../contract.test.ts. */
import { linkSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DiskGone, type DiskSpec } from '../backend.ts';
import type { DiskState } from '../disk.ts';
import { DiskPlaces, TestGuest } from '../test-guest.ts';
import { maxLayers, maxSizes } from './bounds.ts';
import { createQcow2Disks } from './index.ts';
import { makeNext } from './vm-files.ts';

const disks = createQcow2Disks();
const isRoot = process.getuid?.() === 0;

async function overlayOf(spec: DiskSpec, from: DiskState): Promise<string> {
  return (await disks.create(spec, from)).path;
}

describe.runIf(isRoot)('a qcow2 overlay', () => {
  test('belongs to the VM and refers to a link of the image beside it', async () => {
    using places = new DiskPlaces();
    const spec = places.vm('one');
    const disk = await disks.create(spec, places.fromImage);
    if (disk.kind !== 'file') throw new Error('It is no file.');
    const { mode, uid } = statSync(disk.path);
    expect({ mode: mode & 0o777, uid }).toEqual({ mode: 0o600, uid: spec.uid });
    expect(disk.below.map(({ format }) => format)).toEqual(['raw']);
    expect(statSync(disk.below[0]?.path ?? '').ino).toBe(statSync(places.image).ino);
  });

  test.each(['base.ext4', 'lower-0.qcow2', 'rootfs.qcow2'])('is gone without its %s', async (name) => {
    using places = new DiskPlaces();
    const spec = places.vm('one');
    const layers = ['low', 'lower'].map((one) => places.file(one, 'layer'));
    await disks.create(spec, { format: 'qcow2', base: places.image, layers });
    await makeNext(spec);
    rmSync(join(spec.dir, name));
    await expect(disks.adopt(spec)).rejects.toThrow(DiskGone);
    await expect(disks.adopt(spec)).rejects.toThrow(`${name} is missing`);
  });

  test('gets no more layers than can be opened in time', async () => {
    using places = new DiskPlaces();
    const spec = places.vm('one');
    const guest = new TestGuest(await disks.create(spec, places.fromImage));
    for (let has = 1; has < maxLayers; has++) await disks.prepareCapture(spec, guest);
    await expect(disks.prepareCapture(spec, guest)).rejects.toThrow(`has ${maxLayers} layers`);
    const layers = Array.from({ length: maxLayers }, () => places.image);
    const state = { format: 'qcow2', base: places.image, layers } as const;
    expect(await disks.mergeNeed(state, 2 ** 40)).toBe('now');
  });

  test('gets no more layers when those it has occupy too much', async () => {
    using places = new DiskPlaces();
    const spec = places.vm('one');
    const { sizeBytes } = spec;
    const lower = places.file('lower', Buffer.alloc(sizeBytes, 'x'));
    const state = { format: 'qcow2', base: places.image, layers: [lower] } as const;
    const path = await overlayOf(spec, state);
    const guest = new TestGuest(await disks.adopt(spec));
    const tables = await disks.takenBytes(spec);
    writeFileSync(path, Buffer.alloc(sizeBytes - 2 * tables, 'x'), { flag: 'a' });
    await disks.prepareCapture(spec, guest);
    const next = join(spec.dir, 'rootfs-1.qcow2');
    const all = { ...state, layers: [lower, path, next] };
    expect(await disks.mergeNeed(all, sizeBytes)).toBe(undefined);
    writeFileSync(next, Buffer.alloc(tables, 'x'), { flag: 'a' });
    expect(await disks.mergeNeed(all, sizeBytes)).toBe('now');
    await expect(disks.prepareCapture(spec, guest)).rejects.toThrow(`more than ${maxSizes} times its size`);
    expect(await disks.mergeNeed({ ...state, layers: [lower, path] }, sizeBytes)).toBe(undefined);
  });

  test.each(['a link', 'another file', 'a second name'])(
    'in whose place its user has put %s is not captured',
    async (what) => {
      using places = new DiskPlaces();
      const spec = places.vm('one');
      const path = await overlayOf(spec, places.fromImage);
      const secret = places.file('secret', 'secret', 0o600);
      if (what === 'a second name') linkSync(path, `${path}.other`);
      else {
        rmSync(path);
        if (what === 'a link') symlinkSync(secret, path);
        else renameSync(secret, path);
      }
      const capture = await disks.prepareCapture(spec, undefined);
      const target = join(places.root, 'state');
      await expect(capture.write(places.fromImage, () => target)).rejects.toThrow();
      expect(() => statSync(target)).toThrow('ENOENT');
    },
  );
});
