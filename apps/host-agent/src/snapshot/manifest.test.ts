import { crc32 } from 'node:zlib';
import type { HostMachine } from '@perch/protocol';
import { describe, expect, test } from 'vitest';
import { assertCompatible } from './compatibility.ts';
import { SnapshotDamaged, SnapshotIncompatible } from './damaged.ts';
import { decodeManifest, encodeManifest } from './manifest.ts';
import { decodeRootfsMeta } from './rootfs-meta.ts';
import { build, contentId, damage, facts, fc, property, randomBytes } from './testing.ts';

const sum = {
  length: 12_288,
  extents: [
    [0, 4096, 123],
    [8192, 4096, 0xffffffff],
  ] as [number, number, number][],
};
const files = {
  snapfile: sum,
  memfile: sum,
  [`memfile.${build(1)}`]: sum,
  'memfile.header': sum,
  'rootfs.cow': sum,
  'rootfs.meta': sum,
};
const valid = encodeManifest(facts, files);

/** A manifest with a right checksum and any body. */
function frame(body: string): Buffer {
  const crc = crc32(body).toString(16).padStart(8, '0');
  return Buffer.from(`{"crc32":"${crc}","manifest":${body}}\n`);
}
const bodyWith = (change: object) => JSON.stringify({ format_version: 1, ...facts, files, ...change });

test('a manifest is read as it was written, and is JSON', () => {
  const manifest = { format_version: 1, ...facts, files };
  expect(decodeManifest(valid)).toEqual(manifest);
  expect(JSON.parse(valid.toString())).toMatchObject({ manifest });
  expect(decodeManifest(frame(bodyWith({})))).toEqual(manifest);
});

test('a manifest of a disk alone has a version of its own, which an earlier Perch refuses', () => {
  const disk = { 'rootfs.cow': sum, 'rootfs.meta': sum };
  const alone = { ...facts, memory: false } as const;
  expect(decodeManifest(encodeManifest(alone, disk))).toEqual({ format_version: 2, ...alone, files: disk });
  for (const name of ['snapfile', 'memfile', 'memfile.header', `memfile.${build(1)}`])
    expect(() => encodeManifest(alone, { ...disk, [name]: sum }), name).toThrow(SnapshotDamaged);
});

test('so has one of a state whose identity has an environment; without memory it needs no other', () => {
  const withEnv = { ...facts, env: true } as const;
  expect(decodeManifest(encodeManifest(withEnv, files))).toEqual({ format_version: 3, ...withEnv, files });
  const disk = { 'rootfs.cow': sum, 'rootfs.meta': sum };
  const alone = { ...withEnv, memory: false } as const;
  expect(decodeManifest(encodeManifest(alone, disk))).toEqual({ format_version: 2, ...alone, files: disk });
});

property.prop([damage(valid)], { numRuns: 2000 })('no damage to a manifest goes unnoticed', (bytes) => {
  expect(() => decodeManifest(bytes)).toThrow(SnapshotDamaged);
});

property.prop([
  fc.oneof(
    randomBytes,
    fc.json().map(frame),
    fc.jsonValue().map((value) => frame(bodyWith({ files: value }))),
  ),
])('anything else is refused as damaged', (bytes) => {
  expect(() => decodeManifest(bytes)).toThrow(SnapshotDamaged);
});

describe('a manifest with a right checksum is refused for', () => {
  const withFile = (name: string, value: unknown = sum) => ({ files: { ...files, [name]: value } });
  test.each<[string, object, RegExp]>([
    ['another version', { format_version: 4 }, /format version 4; this Perch reads 1 to 3/],
    ['the version of one without memory', { format_version: 2 }, /format version 2, and not what that says/],
    ['no memory in the version of those with', { memory: false }, /format version 1, and not/],
    ['an environment in that of those without', { env: true }, /format version 1, and not/],
    ['no environment in that of those with', { format_version: 3 }, /format version 3, and not/],
    ['memory that it does not have', { format_version: 2, memory: false }, /without memory, and no others/],
    ['a disk less', { format_version: 2, memory: false, files: {} }, /without memory/],
    ['a field more', { comment: 'x' }, /not what it should be/],
    ['a field less', { machine: undefined }, /not what it should be/],
    ['another kind', { kind: 'fork' }, /kind/],
    ['a parent that is no build', { parent: 'base' }, /parent/],
    ['a zero build id', { build_id: '0'.repeat(32) }, /build_id/],
    ['a file that no snapshot has', withFile('../../etc/passwd'), /names "..\/..\/etc\/passwd"/],
    ['itself', withFile('manifest.json'), /names "manifest.json"/],
    ['a file less', { files: { memfile: sum } }, /does not name all files/],
    ['a negative length', withFile('identity.json', { length: -1, extents: [] }), /length/],
    ['half a byte', withFile('identity.json', { length: 0.5, extents: [] }), /length/],
    [
      'a checksum beyond 32 bits',
      withFile('identity.json', { length: 9, extents: [[0, 9, 2 ** 32]] }),
      /extents/,
    ],
    ['an empty extent', withFile('identity.json', { length: 9, extents: [[0, 0, 0]] }), /extent of 0 bytes/],
    [
      'an extent past the end',
      withFile('identity.json', { length: 9, extents: [[8, 2, 0]] }),
      /extent of 2 bytes at 8/,
    ],
    [
      'extents that overlap',
      withFile('identity.json', {
        length: 9,
        extents: [
          [0, 5, 0],
          [4, 5, 0],
        ],
      }),
      /extent of 5 bytes at 4/,
    ],
    [
      'an extent over the limit',
      withFile('memfile', { length: 2 ** 30, extents: [[0, 2 ** 27, 0]] }),
      /extent of 134217728/,
    ],
  ])('%s', (_, change, message) => {
    expect(() => decodeManifest(frame(bodyWith(change)))).toThrow(SnapshotDamaged);
    expect(() => decodeManifest(frame(bodyWith(change)))).toThrow(message);
  });

  test('a file name that is a property of every object', () => {
    const body = bodyWith({}).replace('"snapfile":', '"__proto__":');
    expect(() => decodeManifest(frame(body))).toThrow(SnapshotDamaged);
  });
});

test('what could not be read again is not written', () => {
  expect(() => encodeManifest({ ...facts, cpu: '' }, files)).toThrow(SnapshotDamaged);
});

describe('rootfs.meta', () => {
  const meta = {
    base_template: 'base',
    base_content_id: contentId,
    format: 'dm-snapshot',
    disk_bytes: 2 ** 30,
    layers: [build(1), build(2)],
  };
  const bytes = (change: object = {}) => Buffer.from(JSON.stringify({ ...meta, ...change }));

  test('is read as it was written', () => {
    expect(decodeRootfsMeta(bytes())).toEqual(meta);
  });

  test.each([
    { format: 'raw' },
    { disk_bytes: 1000 },
    { disk_bytes: 2 ** 60 },
    { layers: ['../x'] },
    { layers: [build(1), build(1)] },
    { base_content_id: 'latest' },
    { base_template: '' },
    { more: 1 },
  ])('is refused with %o', (change) => {
    expect(() => decodeRootfsMeta(bytes(change))).toThrow(/^rootfs.meta is not what it should be/);
  });

  property.prop([
    fc.oneof(
      randomBytes,
      damage(bytes()),
      fc.json().map((json) => Buffer.from(json)),
    ),
  ])('is read or refused as damaged, whatever the bytes are', (any) => {
    try {
      expect(decodeRootfsMeta(any).disk_bytes).toBeGreaterThan(0);
    } catch (error) {
      if (!(error instanceof SnapshotDamaged)) throw error;
    }
  });
});

describe('a snapshot goes on', () => {
  const here: HostMachine = { monitor: facts.monitor, cpu: facts.cpu, disk: { format: 'qcow2' } };
  const manifest = { format_version: 1, ...facts, files: {} } as const;
  const snapshot = { manifest };

  test('on the machine that took it', () => {
    expect(() => assertCompatible(snapshot, here)).not.toThrow();
  });

  test('under another version whose states have the same format, and under none with another', () => {
    const monitor = {
      kind: 'firecracker',
      version: '1.12.0',
      accelerator: 'kvm',
      state_format: '6.0.0',
    } as const;
    const taken = { manifest: { ...manifest, monitor } };
    const on = (version: string, state_format?: string) => () =>
      assertCompatible(taken, {
        ...here,
        monitor: { ...monitor, version, state_format } as HostMachine['monitor'],
      });
    expect(on('1.12.1', '6.0.0')).not.toThrow();
    expect(on('1.16.1', '10.0.0')).toThrow(
      /by Firecracker 1.12.0 \(states of format 6.0.0\) and this host runs Firecracker 1.16.1 \(states of format 10.0.0\)/,
    );
    expect(on('1.12.0')).not.toThrow();
    expect(on('1.12.1')).toThrow(/only the same version/);
  });

  test.each<[string, Partial<HostMachine>, RegExp]>([
    [
      'under another version',
      { monitor: { ...facts.monitor, version: '11.0.0' } },
      /taken by QEMU 10.0.2 and this host runs QEMU 11.0.0/,
    ],
    [
      'under another monitor',
      { monitor: { ...facts.monitor, kind: 'firecracker' } },
      /runs Firecracker 10.0.2/,
    ],
    [
      'under another accelerator',
      { monitor: { ...facts.monitor, accelerator: 'kvm' } },
      /under TCG and this host runs guests under KVM/,
    ],
    [
      'on another processor',
      { cpu: 'AuthenticAMD 25-1-1' },
      /another processor \("GenuineIntel 6-85-7"\).*"AuthenticAMD 25-1-1"/,
    ],
  ])('not %s', (_, change, message) => {
    expect(() => assertCompatible(snapshot, { ...here, ...change })).toThrow(SnapshotIncompatible);
    expect(() => assertCompatible(snapshot, { ...here, ...change })).toThrow(message);
  });
});
