/** Shared by the tests beside this file. */
import { mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import type { BuildId } from './build-id.ts';
import { writeHeader } from './header.ts';
import { SnapshotDirectory } from './layout.ts';
import type { ManifestFacts } from './manifest.ts';
import { createMapping, mergeMapping } from './merge.ts';
import { writeRootfsMeta } from './rootfs-meta.ts';

export { fc, property };

export const build = (number: number): BuildId => number.toString(16).padStart(32, '0');
export const contentId = 'ab'.repeat(32);
const MiB = 2 ** 20;

export const facts: ManifestFacts = {
  kind: 'pause',
  sandbox_id: 'sbaaaaaaaaaaaaaaaaaa',
  template: 'base',
  created_at: '2026-01-02T03:04:05.678Z',
  build_id: build(2),
  parent: build(1),
  monitor: { kind: 'qemu', version: '10.0.2', accelerator: 'tcg' },
  cpu: 'GenuineIntel 6-85-7',
  machine: { vcpus: 1, memory_mb: 1, disk_mb: 64 },
  disk: { format: 'qcow2' },
  kernel_content_id: contentId,
  initramfs_content_id: contentId,
};

/** A directory that ends with the test. */
export async function temporaryDirectory() {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-snapshot-'));
  return { path: dir.path, [Symbol.asyncDispose]: () => dir.remove() };
}

/** All files of a small snapshot of build 2 over build 1, but no manifest. */
export async function fillDirectory(path: string): Promise<SnapshotDirectory> {
  const directory = new SnapshotDirectory(path);
  await directory.ensure();
  const parent = createMapping(MiB, {
    build: build(1),
    runs: [{ offset: 0, length: 16_384, storageOffset: 0 }],
  });
  const runs = [
    { offset: 4096, length: 4096, storageOffset: 0 },
    { offset: 8192, length: 4096, storageOffset: null },
  ];
  const mapping = mergeMapping(parent, { build: build(2), runs });
  await writeFile(directory.file('snapfile'), 'device state');
  await writeFile(directory.file('memfile'), Buffer.alloc(4096, 2));
  await writeFile(directory.file(`memfile.${build(1)}`), Buffer.alloc(16_384, 1));
  await writeHeader(directory, { generation: 1, build: build(2), baseBuild: build(1), mapping });
  await writeFile(directory.file('rootfs.cow'), 'layer');
  await writeFile(directory.file('rootfs.base'), Buffer.alloc(65_536, 3));
  await writeRootfsMeta(directory, {
    base_template: 'base',
    base_content_id: contentId,
    format: 'qcow2',
    disk_bytes: 64 * MiB,
    layers: [],
  });
  await writeFile(directory.file('identity.json'), '{"token":"secret"}');
  return directory;
}

/** Valid bytes with one of three kinds of damage, always different from the original. */
export function damage(valid: Buffer): fc.Arbitrary<Buffer> {
  const bit = fc.nat(valid.length * 8 - 1).map((at) => {
    const bytes = Buffer.from(valid);
    bytes.writeUInt8(bytes.readUInt8(at >> 3) ^ (1 << (at & 7)), at >> 3);
    return bytes;
  });
  const cut = fc.nat(valid.length - 1).map((length) => Buffer.from(valid.subarray(0, length)));
  const grown = fc.uint8Array({ minLength: 1, maxLength: 80 }).map((more) => Buffer.concat([valid, more]));
  return fc.oneof(bit, cut, grown);
}

export const randomBytes = fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes));
