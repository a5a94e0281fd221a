/**
 * `manifest.json`: what a snapshot consists of and where it can run. A directory without a valid one is not
 * a snapshot.
 *
 * One line: `{"crc32":"` 8 hex digits `","manifest":` body `}` and a newline. The checksum is that of the
 * bytes of the body, and is held against them before anything in them is believed.
 *
 * Format version 1 is of a snapshot with memory, 2 of one without, 3 of one with memory and with the environment of its
 * sandbox: a Perch that knows only the first says so.
 */

import { crc32 } from 'node:zlib';
import { DiskFormat, MonitorIdentity } from '@perch/protocol';
import { type Static, Type } from 'typebox';
import { type FileSum, maxExtentBytes } from './checksum.ts';
import { SnapshotDamaged } from './damaged.ts';
import { jsonReader } from './json.ts';
import { isComplete, isDiskAlone, isSnapshotFile, snapshotFiles } from './layout.ts';
import { BuildIdText, Bytes, ContentId } from './schemas.ts';

const formatVersions = { withMemory: 1, diskAlone: 2, withEnv: 3 } as const;
/** Largest file that is read, bytes: some two million extents. */
export const maxManifestBytes = 64 * 2 ** 20;

const closed = { additionalProperties: false } as const;
const name = Type.String({ minLength: 1, maxLength: 255 });
const Count = Type.Integer({ minimum: 1, maximum: 2 ** 31 });

const facts = {
  /** `copy`: of a snapshot, with the memory in one file. */
  kind: Type.Union([Type.Literal('pause'), Type.Literal('snapshot'), Type.Literal('copy')]),
  /** Whose state it is; null when that is not known. */
  sandbox_id: Type.Union([name, Type.Null()]),
  /** Name of the image that the first of the chain was booted from: for people. */
  template: name,
  /** UTC, as `Date.toISOString` has it. */
  created_at: Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$' }),
  build_id: BuildIdText,
  /** The build that this one changed; null when it holds everything itself. */
  parent: Type.Union([BuildIdText, Type.Null()]),
  monitor: MonitorIdentity,
  /** The host's processor as the guest saw it: an opaque text, which must be the same where it goes on. */
  cpu: Type.String({ minLength: 1, maxLength: 16_384 }),
  machine: Type.Object({ vcpus: Count, memory_mb: Count, disk_mb: Count }, closed),
  /** Content of the kernel that the guest runs. */
  kernel_content_id: ContentId,
  /** Content of the initramfs, which is the guest agent. */
  initramfs_content_id: ContentId,
  /** `image` where the disk stands alone. Manifests without it have layers of the format that `rootfs.meta` names. */
  disk: Type.Optional(Type.Object({ format: DiskFormat }, closed)),
  /** Content of `rootfs.ext4`, where the disk stands alone. */
  rootfs_content_id: Type.Optional(ContentId),
  /** Of a snapshot without memory, whose guest begins from power-on. */
  memory: Type.Optional(Type.Literal(false)),
  /** `identity.json` has the environment of the sandbox. */
  env: Type.Optional(Type.Literal(true)),
};

const FileSumSchema = Type.Object(
  {
    length: Bytes,
    extents: Type.Array(Type.Tuple([Bytes, Bytes, Type.Integer({ minimum: 0, maximum: 2 ** 32 - 1 })])),
  },
  closed,
);

const ManifestSchema = Type.Object(
  {
    format_version: Type.Union(Object.values(formatVersions).map((version) => Type.Literal(version))),
    ...facts,
    /** All other files of the directory, by name. */
    files: Type.Record(Type.String(), FileSumSchema),
  },
  closed,
);

const FactsSchema = Type.Object(facts, closed);
/** The facts of the manifest besides its files. */
export type ManifestFacts = Static<typeof FactsSchema>;

export interface Manifest extends ManifestFacts {
  format_version: (typeof formatVersions)[keyof typeof formatVersions];
  files: Readonly<Record<string, FileSum>>;
}

const readBody = jsonReader(ManifestSchema, snapshotFiles.manifest);
const readVersion = jsonReader(Type.Object({ format_version: Type.Integer() }), snapshotFiles.manifest);

const frame = /^\{"crc32":"([0-9a-f]{8})","manifest":$/;
const frameBytes = '{"crc32":"00000000","manifest":'.length;
const tail = '}\n';

/** @throws SnapshotDamaged for values that could not be read again */
export function encodeManifest(given: ManifestFacts, files: Readonly<Record<string, FileSum>>): Buffer {
  const body = Buffer.from(JSON.stringify({ format_version: versionOf(given), ...given, files }));
  decodeBody(body);
  const crc = crc32(body).toString(16).padStart(8, '0');
  const bytes = Buffer.concat([Buffer.from(`{"crc32":"${crc}","manifest":`), body, Buffer.from(tail)]);
  if (bytes.length > maxManifestBytes) throw damaged(`would have more than ${maxManifestBytes} bytes`);
  return bytes;
}

/** @throws SnapshotDamaged for everything that `encodeManifest` does not write */
export function decodeManifest(bytes: Buffer): Manifest {
  const crc = frame.exec(bytes.toString('latin1', 0, frameBytes))?.[1];
  const body = bytes.subarray(frameBytes, Math.max(frameBytes, bytes.length - tail.length));
  if (crc === undefined || bytes.toString('latin1', frameBytes + body.length) !== tail) {
    throw damaged('is not a manifest, or not all of one');
  }
  if (crc32(body) !== Number.parseInt(crc, 16)) throw damaged('does not match its own checksum');
  return decodeBody(body);
}

function decodeBody(body: Buffer): Manifest {
  const { format_version: version } = readVersion(body);
  const known: readonly number[] = Object.values(formatVersions);
  if (!known.includes(version)) {
    throw damaged(`has format version ${version}; this Perch reads 1 to ${Math.max(...known)}`);
  }
  const manifest = readBody(body) as Manifest;
  if (version !== versionOf(manifest)) throw damaged(`has format version ${version}, and not what that says`);
  for (const [file, sum] of Object.entries(manifest.files)) {
    if (!isSnapshotFile(file) || file === snapshotFiles.manifest)
      throw damaged(`names ${JSON.stringify(file)}`);
    assertExtents(file, sum);
  }
  const names = new Set(Object.keys(manifest.files));
  if (hasMemory(manifest) && !isComplete(names)) throw damaged('does not name all files of a snapshot');
  if (!hasMemory(manifest) && !isDiskAlone(names)) {
    throw damaged('does not name the files of a snapshot without memory, and no others');
  }
  return manifest;
}

/** Whether a guest goes on where it was. Else one is booted from the disk. */
export function hasMemory({ memory }: Pick<ManifestFacts, 'memory'>): boolean {
  return memory !== false;
}

function versionOf(given: Pick<ManifestFacts, 'memory' | 'env'>): Manifest['format_version'] {
  if (!hasMemory(given)) return formatVersions.diskAlone;
  return given.env ? formatVersions.withEnv : formatVersions.withMemory;
}

function assertExtents(file: string, { length, extents }: FileSum): void {
  let end = 0;
  for (const [offset, bytes] of extents) {
    if (offset < end || bytes === 0 || bytes > maxExtentBytes || bytes > length - offset) {
      throw damaged(`has for ${file} an extent of ${bytes} bytes at ${offset}`);
    }
    end = offset + bytes;
  }
}

function damaged(reason: string): SnapshotDamaged {
  return new SnapshotDamaged(snapshotFiles.manifest, reason);
}
