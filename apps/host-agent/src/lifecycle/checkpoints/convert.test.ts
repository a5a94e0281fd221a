/** With layers as a guest leaves them. No kernel with device-mapper is needed. */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmod, mkdir, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import type { LayeredState } from '../../disk/index.ts';
import { createQcow2Disks } from '../../disk/qcow2/index.ts';
import { nobodysUid } from '../../disk/test-guest.ts';
import { imageIdOf } from '../../images/index.ts';
import {
  commitSnapshot,
  openSnapshot,
  SnapshotDirectory,
  snapshotFiles,
  verifySnapshot,
  writeRootfsMeta,
} from '../../snapshot/index.ts';
import { build, facts, fillDirectory, temporaryDirectory } from '../../snapshot/testing.ts';
import { DiskRoom } from '../journal/disk-room.ts';
import type { SandboxRecord } from '../journal/journal.ts';
import { FakeMachine } from '../testing.ts';
import { Conversions } from './conversions.ts';
import { convertSnapshot } from './convert.ts';
import { convertNamed } from './convert-named.ts';
import { diskOf } from './disk.ts';
import { flattenSnapshot } from './flatten.ts';
import { checkpointMerger } from './merge-checkpoint.ts';
import { SnapshotStore } from './snapshot-store.ts';

const MiB = 2 ** 20;
const uid = nobodysUid();
const isRoot = process.getuid?.() === 0;
const disks = createQcow2Disks();

/** The files of a snapshot whose disk has two layers of qcow2. */
async function fill(path: string): Promise<SnapshotDirectory> {
  const directory = await fillDirectory(path);
  const base = directory.file('rootfs.base');
  await chmod(base, 0o444);
  const id = await imageIdOf(base);
  const layers: string[] = [];
  for (const [i, command] of ['write -P 1 20M 1M', 'write -P 2 32k 2M'].entries()) {
    const dir = join(path, '..', `vm-${randomUUID()}`);
    await mkdir(dir);
    const from = { format: 'qcow2', base, layers } as const;
    const disk = await disks.create(
      { id: 'vm', dir, uid, sizeBytes: 64 * MiB },
      i === 0 ? { format: 'image', image: base } : from,
    );
    const chain = {
      driver: 'qcow2',
      file: { driver: 'file', filename: disk.path },
      backing: nodeOf(base, layers),
    };
    execFileSync('qemu-io', ['-c', command, `json:${JSON.stringify(chain)}`]);
    const layer = directory.file(i === 0 ? `rootfs.cow.${build(1)}` : 'rootfs.cow');
    await rm(layer, { force: true });
    execFileSync('cp', ['--sparse=always', disk.path, layer]);
    await chmod(layer, 0o444);
    await rm(dir, { recursive: true });
    layers.push(layer);
  }
  await rm(directory.file('rootfs.meta'));
  await writeRootfsMeta(directory, {
    ...{ base_template: 'base', base_content_id: id, format: 'qcow2' },
    ...{ disk_bytes: 64 * MiB, layers: [build(1)] },
  });
  return directory;
}

function nodeOf(base: string, layers: readonly string[]): object {
  const file = (filename: string) => ({ driver: 'file', filename, 'read-only': true, locking: 'off' });
  let node: object = { driver: 'raw', 'read-only': true, file: file(base) };
  for (const path of layers) node = { driver: 'qcow2', 'read-only': true, file: file(path), backing: node };
  return node;
}

async function setUp(change: (directory: SnapshotDirectory) => Promise<unknown> = async () => {}) {
  const dir = await temporaryDirectory();
  const vmsDir = join(dir.path, 'vms');
  await mkdir(vmsDir);
  const machine = new FakeMachine();
  const network = machine.network();
  const snapshots = new SnapshotStore({ dir: join(dir.path, 'snapshots'), log: pino({ level: 'silent' }) });
  await snapshots.start();
  await snapshots.create('one', false, async ({ temporary, final, durable }) => {
    await fill(temporary.path);
    await change(temporary);
    await commitSnapshot({ temporary, final, durable, facts });
  });
  const place = new SnapshotDirectory(join(dir.path, 'snapshots', 'one'));
  const deps = {
    ...{
      network: { ...network, acquire: async () => ({ ...(await network.acquire()), uid }) },
      vmsDir,
      snapshots,
      machine,
    },
    room: new DiskRoom({ dir: dir.path, keepMb: 0 }),
  };
  return {
    ...{ dir: dir.path, place, deps, machine },
    convert: (to: 'qcow2' | 'dm-snapshot') => convertNamed('one', to, deps),
    /** The disk as a guest would find it, made one file by a tool of its own. */
    flat: async () => {
      const path = join(dir.path, randomUUID());
      const { base, layers } = diskOf(await openSnapshot(place)) as LayeredState;
      execFileSync('qemu-img', [
        'convert',
        '-O',
        'raw',
        `json:${JSON.stringify(nodeOf(base, layers))}`,
        path,
      ]);
      return imageIdOf(path);
    },
    [Symbol.asyncDispose]: async () => {
      // Nothing is left of a tool, whatever came of it.
      expect([await readdir(vmsDir), machine.slots.size]).toEqual([[], 0]);
      await dir[Symbol.asyncDispose]();
    },
  };
}

describe.runIf(isRoot)('a snapshot', () => {
  test('is converted there and back, and is the same state', async () => {
    await using it = await setUp();
    const [before, flat] = [await verifySnapshot(it.place), await it.flat()];
    await it.convert('dm-snapshot');
    const there = await verifySnapshot(it.place);
    expect(there.rootfs).toEqual({ ...before.rootfs, format: 'dm-snapshot', layers: [] });
    const { files: _, ...said } = there.manifest;
    const { files: _files, ...wasSaid } = before.manifest;
    expect(said).toEqual({ ...wasSaid, disk: { format: 'dm-snapshot' } });
    await it.convert('dm-snapshot');
    expect((await verifySnapshot(it.place)).manifest).toEqual(there.manifest);
    await it.convert('qcow2');
    expect((await verifySnapshot(it.place)).rootfs).toMatchObject({ format: 'qcow2', layers: [] });
    expect(await it.flat()).toBe(flat);
  });

  test.each<[string, (it: SnapshotDirectory) => Promise<unknown>, string]>([
    [
      'whose layer is none',
      (directory) =>
        rm(directory.file('rootfs.cow')).then(() => writeFile(directory.file('rootfs.cow'), 'x')),
      'conversion_failed',
    ],
    [
      'whose image is another',
      (directory) => truncate(directory.file('rootfs.base'), 4096),
      'snapshot_damaged',
    ],
  ])('%s is not converted, and is as it was', async (_, change, code) => {
    await using it = await setUp(change);
    const before = await verifySnapshot(it.place);
    const failed = expect(it.convert('dm-snapshot')).rejects;
    await failed.toMatchObject({ code, details: { id: 'one', reason: expect.any(String) } });
    expect(await verifySnapshot(it.place)).toEqual(before);
    expect(await readdir(join(it.dir, 'snapshots'))).toEqual(['one']);
  });

  test('whose bytes are not as they were written is not converted, of either format', async () => {
    for (const own of ['qcow2', 'dm-snapshot'] as const) {
      await using it = await setUp();
      await it.convert(own);
      const layer = it.place.file('rootfs.cow');
      await chmod(layer, 0o644);
      await writeFile(layer, 'x', { flag: 'r+' });
      const failed = it.convert(own === 'qcow2' ? 'dm-snapshot' : 'qcow2');
      await expect(failed).rejects.toMatchObject({ code: 'snapshot_damaged' });
    }
  });

  test('is not converted without room for all that is written meanwhile, and nothing is left', async () => {
    await using it = await setUp();
    const from = await openSnapshot(it.place);
    const places = (name: string) => ({
      temporary: new SnapshotDirectory(join(it.dir, `${name}-new`)),
      final: new SnapshotDirectory(join(it.dir, name)),
      durable: false,
    });
    let needed = 0;
    const ample = {
      require: async (bytes: number) => {
        needed = bytes;
      },
    };
    await convertSnapshot(from, 'dm-snapshot', places('made'), { ...it.deps, room: ample });
    // The bytes that the tool reads are in a file, and then in the layer.
    expect(needed).toBeGreaterThan(2 * 3 * MiB);
    const bavail = Math.ceil(needed / 4096);
    const statfs = async () => ({ bavail: bavail - 1, bsize: 4096 });
    const room = new DiskRoom({ dir: it.dir, keepMb: 0, statfs });
    const short = convertSnapshot(from, 'dm-snapshot', places('short'), { ...it.deps, room });
    await expect(short).rejects.toMatchObject({
      code: 'capacity_exhausted',
      details: { resource: 'disk' },
    });
    expect(await readdir(it.dir)).not.toContain('short');
  });

  test('whose conversion is given up is not read to its end first', async () => {
    await using it = await setUp();
    const [temporary, final] = ['new', 'made'].map((name) => new SnapshotDirectory(join(it.dir, name))) as [
      SnapshotDirectory,
      SnapshotDirectory,
    ];
    const from = await openSnapshot(it.place);
    const signal = AbortSignal.abort(new Error('enough'));
    const target = { temporary, final, durable: true };
    await expect(convertSnapshot(from, 'dm-snapshot', target, it.deps, { signal })).rejects.toThrow('enough');
    expect(await readdir(it.dir)).not.toContain('new');
  });

  test('whose conversion is under way when the host agent stops is as it was, and nothing works on it', async () => {
    await using it = await setUp();
    const before = await verifySnapshot(it.place);
    const [begun, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const acquire = async () => {
      begun.resolve();
      await gate.promise;
      return it.deps.network.acquire();
    };
    const conversions = new Conversions({ ...it.deps, network: { ...it.deps.network, acquire } });
    const message = expect.stringContaining('The host agent stops.');
    const failed = { code: 'conversion_failed', message };
    const running = expect(conversions.run('one', 'dm-snapshot')).rejects.toMatchObject(failed);
    await begun.promise;
    const stopped = conversions.stop();
    gate.resolve();
    await stopped;
    expect(await readdir(join(it.dir, 'snapshots'))).toEqual(['one']);
    expect(await verifySnapshot(it.place)).toEqual(before);
    await running;
  });

  test('that another kind of disk wrote can be flattened', async () => {
    await using it = await setUp();
    const flat = await it.flat();
    await it.convert('dm-snapshot');
    await it.deps.snapshots.change('one', (from, to) => flattenSnapshot(from, to, { ...it.deps, disks }));
    const { manifest } = await verifySnapshot(it.place);
    expect(manifest).toMatchObject({ disk: { format: 'image' }, rootfs_content_id: flat });
    expect(await imageIdOf(it.place.file('rootfs.ext4'))).toBe(flat);
  });

  test('that another kind of disk wrote takes its place converted where a sandbox is paused there', async () => {
    await using it = await setUp();
    await it.convert('dm-snapshot');
    const scratch = join(it.dir, 'scratch');
    const merge = checkpointMerger({
      ...{ ...it.deps, disks: it.machine.disk, bounds: { memoryPercent: 100, layers: 8 } },
      saved: {
        ...it.machine.saved,
        directory: () => it.place,
        scratch: async () => {
          await mkdir(scratch);
          return { path: scratch, [Symbol.asyncDispose]: () => rm(scratch, { recursive: true }) };
        },
      },
    });
    {
      await using made = await merge({ id: 'sb1' } as SandboxRecord, 1, new AbortController().signal);
      expect((await openSnapshot(it.place)).rootfs?.format).toBe('dm-snapshot');
      expect(made?.what).toBe('converted');
      await made?.replace();
    }
    expect((await verifySnapshot(it.place)).rootfs?.format).toBe('qcow2');
    expect(await it.place.names()).toContain(snapshotFiles.rootfsCow);
    expect(await readdir(it.dir)).not.toContain('scratch');
  });
});
