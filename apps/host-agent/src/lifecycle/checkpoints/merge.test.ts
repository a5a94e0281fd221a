import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  commitSnapshot,
  newBuildId,
  openSnapshot,
  SnapshotDirectory,
  verifySnapshot,
  writeRootfsMeta,
} from '../../snapshot/index.ts';
import { build, contentId, facts, fillDirectory, temporaryDirectory } from '../../snapshot/testing.ts';
import { memoryIn } from '../testing.ts';
import { excessOf, mergeSnapshot } from './merge.ts';

const pageBytes = 4096;

/** A checkpoint with one page of its own in 256, and two layers. */
async function checkpoint(path: string) {
  const temporary = await fillDirectory(`${path}.new`);
  await writeFile(temporary.file(`rootfs.cow.${build(1)}`), 'lower layer');
  await rm(temporary.file('rootfs.meta'));
  await writeRootfsMeta(temporary, {
    ...{ base_template: 'base', base_content_id: contentId, format: 'qcow2' },
    ...{ disk_bytes: 64 * 2 ** 20, layers: [build(1)] },
  });
  const final = new SnapshotDirectory(path);
  await commitSnapshot({ temporary, final, facts });
  return openSnapshot(final);
}

async function merged(
  of: Awaited<ReturnType<typeof checkpoint>>,
  what: { memory: boolean; layers: boolean },
) {
  const path = join(of.directory.path, '..', newBuildId());
  const [temporary, final] = [`${path}.new`, path].map((one) => new SnapshotDirectory(one));
  if (!temporary || !final) throw new Error('no names');
  const steps = {
    mergeLayers: (target: string) => writeFile(target, 'both layers', { mode: 0o444 }),
    pace: async () => {},
  };
  const wrote = await mergeSnapshot(of, what, { temporary, final, durable: false }, steps);
  return { wrote, snapshot: await verifySnapshot(final) };
}

test('only what is beyond its bound is merged', async () => {
  await using dir = await temporaryDirectory();
  const of = await checkpoint(join(dir.path, 'checkpoint'));
  expect(await excessOf(of, 1, false)).toEqual({
    memory: false,
    layers: false,
    bytes: 0,
  });
  expect(await excessOf(of, 1, true)).toMatchObject({ layers: true });
  expect(await excessOf(of, 0, false)).toMatchObject({
    memory: true,
    layers: false,
  });
  // Three pages that are not zeros; two layers and what is said of them, in blocks of the file system.
  const blocks = await Promise.all(
    ['rootfs.cow', 'rootfs.meta', `rootfs.cow.${build(1)}`].map((name) => stat(of.directory.file(name))),
  );
  const layerBytes = blocks.reduce((sum, one) => sum + one.blocks * 512, 0);
  const all = await excessOf(of, 0, true);
  expect(all.bytes).toBe(3 * pageBytes + layerBytes);
});

test('a memory in too many files is merged however little has changed', async () => {
  await using dir = await temporaryDirectory();
  const of = await checkpoint(join(dir.path, 'checkpoint'));
  const inFiles = (files: number) => excessOf({ ...of, header: memoryIn(files).header }, 100, false);
  expect(await inFiles(128)).toMatchObject({ memory: false });
  expect(await inFiles(129)).toMatchObject({ memory: true, bytes: 129 * pageBytes });
});

test('a merged checkpoint is the same state, with all memory in one file and one layer', async () => {
  await using dir = await temporaryDirectory();
  const of = await checkpoint(join(dir.path, 'checkpoint'));
  const { snapshot, wrote } = await merged(of, { memory: true, layers: true });
  const { files, ...said } = snapshot.manifest;
  expect(said).toMatchObject(facts);
  expect(Object.keys(files).sort()).toEqual(
    [
      'identity.json',
      'memfile',
      'memfile.header',
      'rootfs.base',
      'rootfs.cow',
      'rootfs.meta',
      'snapfile',
    ].sort(),
  );
  expect(snapshot.header).toMatchObject({ generation: 0, build: build(2), baseBuild: build(2) });
  const memory = Buffer.alloc(2 ** 20);
  memory.fill(1, 0, 4 * pageBytes);
  memory.fill(2, pageBytes, 2 * pageBytes);
  memory.fill(0, 2 * pageBytes, 3 * pageBytes);
  expect((await readFile(snapshot.directory.file('memfile'))).equals(memory)).toBe(true);
  expect(snapshot.rootfs).toEqual({ ...of.rootfs, layers: [] });
  expect(await readFile(snapshot.directory.file('rootfs.cow'), 'utf8')).toBe('both layers');
  expect(wrote).toEqual({ memoryBytes: 3 * pageBytes, layerBytes: pageBytes });
  // Nothing is left to merge.
  expect(await excessOf(snapshot, 0, false)).toMatchObject({
    memory: false,
    layers: false,
  });
  // The files that it was made of are as before.
  await verifySnapshot(of.directory);
});

test('what is not merged is shared', async () => {
  await using dir = await temporaryDirectory();
  await mkdir(join(dir.path, 'x'));
  const of = await checkpoint(join(dir.path, 'x/checkpoint'));
  const layersOnly = (await merged(of, { memory: false, layers: true })).snapshot;
  expect(layersOnly.header).toEqual(of.header);
  const memoryOnly = (await merged(of, { memory: true, layers: false })).snapshot;
  expect(memoryOnly.rootfs).toEqual(of.rootfs);
  const inodes = (names: string[], directory: SnapshotDirectory) =>
    Promise.all(names.map(async (name) => (await stat(directory.file(name))).ino));
  const memory = ['memfile', `memfile.${build(1)}`, 'snapfile'];
  expect(await inodes(memory, layersOnly.directory)).toEqual(await inodes(memory, of.directory));
  const layers = ['rootfs.cow', `rootfs.cow.${build(1)}`, 'rootfs.base'];
  expect(await inodes(layers, memoryOnly.directory)).toEqual(await inodes(layers, of.directory));
});

test.each(['memfile', `memfile.${build(1)}`, 'rootfs.cow', `rootfs.cow.${build(1)}`])(
  'a damaged %s is not merged',
  async (name) => {
    await using dir = await temporaryDirectory();
    const of = await checkpoint(join(dir.path, 'checkpoint'));
    const bytes = await readFile(of.directory.file(name));
    bytes.writeUInt8(bytes.readUInt8(0) ^ 1);
    await writeFile(of.directory.file(name), bytes);
    const what = name.startsWith('memfile')
      ? { memory: true, layers: false }
      : { memory: false, layers: true };
    await expect(merged(of, what)).rejects.toMatchObject({ name: 'SnapshotDamaged' });
  },
);
