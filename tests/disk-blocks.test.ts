/** The look at the disk that other tests end with finds what is planted. */
import { existsSync } from 'node:fs';
import { link, mkdir, mkdtempDisposable, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { entriesOf, halves, type Owners, occupied, unowned } from './setup/disk-blocks.ts';

const block = 4096;
const owners: Owners = { machines: ['one'], sandboxes: ['one', 'two'], failed: ['two'], snapshots: ['kept'] };
const none: Owners = { machines: [], sandboxes: [], failed: [], snapshots: [] };
const bootSnapshot = `boot-snapshots/${'a'.repeat(32)}`;

/** A data directory with one of everything, by the names that Perch gives. */
async function dataDir() {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-blocks-'));
  const at = (path: string) => join(dir.path, path);
  const put = async (path: string, blocks = 1) => {
    await mkdir(dirname(at(path)), { recursive: true });
    await writeFile(at(path), Buffer.alloc(blocks * block, 1));
  };
  await put('images/base/rootfs.ext4', 8);
  await put('images/base/content-id');
  await put(`host/boot/vmlinuz-${'0'.repeat(64)}`, 2);
  for (const snapshot of ['sandboxes/one/3', 'snapshots/kept', bootSnapshot]) {
    for (const file of ['snapfile', 'memfile', 'memfile.header', 'manifest.json'])
      await put(`${snapshot}/${file}`);
    await link(at('images/base/rootfs.ext4'), at(`${snapshot}/rootfs.base`));
  }
  await put('host/vms/one/qemu.log');
  await put('sandboxes/two/.1/memfile');
  await mkdir(at('control/uploads'), { recursive: true });
  const left = (of = owners) => unowned(entriesOf(dir.path), of).map(({ path }) => path);
  const remove = (path: string) => rm(at(path), { recursive: true });
  return { path: dir.path, at, put, left, remove, [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose]() };
}

test('what somebody has is not left over', async () => {
  await using dir = await dataDir();
  expect(dir.left()).toEqual([]);
  expect(halves(entriesOf(dir.path), owners)).toEqual([]);
});

test.each([
  'host/vms/.flatten-1/flat.ext4',
  'host/boot/initramfs.tmp',
  'images/.base-0123/rootfs.ext4',
  'sandboxes/gone/1/memfile',
  'sandboxes/.made-1/new/memfile',
  'sandboxes/one/.4/memfile',
  'sandboxes/one/3/memfile.new',
  'snapshots/.made-1/memfile',
  'snapshots/kept/deeper/memfile',
  'snapshots/another/memfile',
  'boot-snapshots/begun/memfile',
  `${bootSnapshot}/flat.ext4`,
  'control/uploads/1',
])('%s is left over, with its bytes', async (path) => {
  await using dir = await dataDir();
  const before = occupied(entriesOf(dir.path));
  await dir.put(path, 3);
  expect(dir.left()).toContain(path);
  const total = (of: Record<string, number>) => Object.values(of).reduce((sum, bytes) => sum + bytes, 0);
  const more = total(occupied(entriesOf(dir.path))) - total(before);
  expect(more).toBeGreaterThanOrEqual(3 * block);
});

test('a snapshot without its manifest is half of one', async () => {
  await using dir = await dataDir();
  for (const path of ['sandboxes/one/3', 'snapshots/kept', bootSnapshot])
    await dir.remove(`${path}/manifest.json`);
  expect(halves(entriesOf(dir.path), owners).sort()).toEqual([
    bootSnapshot,
    'sandboxes/one/3',
    'snapshots/kept',
  ]);
});

test('a file counts once, holes do not count, and what an image shares is the image’s', async () => {
  await using dir = await dataDir();
  const before = occupied(entriesOf(dir.path));
  expect(before.images).toBeGreaterThanOrEqual(9 * block);
  await link(dir.at('sandboxes/one/3/memfile'), dir.at('snapshots/kept/rootfs.cow'));
  await link(dir.at('images/base/rootfs.ext4'), dir.at('host/vms/one/base'));
  await using sparse = await open(dir.at('sandboxes/one/3/rootfs.cow'), 'wx');
  await sparse.truncate(2 ** 30);
  expect(occupied(entriesOf(dir.path))).toEqual(before);
});

test('when all are gone nothing is occupied but what lasts', async () => {
  await using dir = await dataDir();
  const { passing: _, ...lasting } = occupied(entriesOf(dir.path));
  for (const path of ['host/vms/one', 'sandboxes/one', 'sandboxes/two', 'snapshots/kept']) {
    expect(dir.left(none)).toContain(path);
    await dir.remove(path);
  }
  expect(existsSync(dir.at('sandboxes'))).toBe(true);
  expect(dir.left(none)).toEqual([]);
  expect(occupied(entriesOf(dir.path))).toEqual({ ...lasting, passing: 0 });
});
