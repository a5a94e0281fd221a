/**
 * A directory of the older layout: all files of a snapshot but the manifest, perhaps without the image below its
 * disk and without the secrets of its guest.
 */
import { chmod, type FileHandle, writeFile } from 'node:fs/promises';
import { limits, monitorNames } from '@perch/protocol';
import { failpoint } from '../../../failpoints/index.ts';
import {
  assertStored,
  commitSnapshot,
  copyMapped,
  createMapping,
  decodeHeader,
  type FileSum,
  type ForeignDirectory,
  jsonReader,
  type MemoryHeader,
  maxHeaderBytes,
  memfileName,
  newBuildId,
  openSnapshot,
  readFully,
  SnapshotDamaged,
  type SnapshotDirectory,
  snapshotFiles,
  writeHeader,
} from '../../../snapshot/index.ts';
import type { FlatCopyTarget } from '../flat-copy.ts';
import { CapturedIdentity, maxIdentityBytes } from '../identity.ts';
import { type Known, settleFacts } from './facts.ts';
import { modeOf } from './modes.ts';
import { findDisk } from './older-disk.ts';
import { ImportRefused } from './refused.ts';
import type { Assumed, ImportHost, ImportRequest } from './request.ts';

/** Bound of what a monitor writes as device state. */
const maxSnapfileBytes = 16 * 2 ** 20;
/** Higher than any number that a guest was given; the next must be higher than the last. */
const unknownNumber = 2 ** 32;

/** @returns what was assumed. @throws SnapshotDamaged, ImportRefused; PerchError capacity_exhausted */
export async function takeOlderLayout(
  from: ForeignDirectory,
  to: FlatCopyTarget,
  request: ImportRequest,
  host: ImportHost,
): Promise<Assumed> {
  const { known, assumed } = settleFacts(request.facts, host);
  const devices = await readDevices(from, known, host);
  from.length(snapshotFiles.memfile);
  const header = decodeHeader(await from.read(snapshotFiles.memfileHeader, maxHeaderBytes));
  const memoryMb = assertMemory(header, from);
  const disk = await findDisk(from, host);
  const identity = await readIdentity(from, request.access_token);

  await host.room.require(bytesToWrite(from, header), `A copy of ${request.directory}`);

  const { temporary, final, durable } = to;
  const { snapfile, identity: identityName } = snapshotFiles;
  await temporary.ensure();
  await writeFile(temporary.file(snapfile), devices, { mode: modeOf(snapfile) });
  await chmod(temporary.file(snapfile), modeOf(snapfile));
  await writeFile(temporary.file(identityName), JSON.stringify(identity), { mode: modeOf(identityName) });
  const rootfs = await disk.place(temporary);
  const { build, sum } = await takeMemory(from, header, temporary);
  failpoint('import.rebuilt');
  const { vcpus, ...facts } = known;
  await commitSnapshot({
    ...{ temporary, final, durable, sums: { [snapshotFiles.memfile]: sum } },
    facts: {
      ...facts,
      ...{ kind: 'copy', sandbox_id: null, template: disk.image ?? 'unknown' },
      ...{ created_at: new Date().toISOString(), build_id: build, parent: header.build },
      machine: { vcpus, memory_mb: memoryMb, disk_mb: disk.diskMb },
      disk: { format: disk.format },
      ...(rootfs === undefined ? {} : { rootfs_content_id: rootfs }),
      ...(identity.env ? { env: true } : {}),
    },
  });
  await openSnapshot(final);
  return assumed;
}

/** Of another kind of monitor it is not known here what it writes. */
async function readDevices(
  from: ForeignDirectory,
  { monitor: wrote }: Known,
  { machine, monitor }: ImportHost,
): Promise<Buffer> {
  const { snapfile } = snapshotFiles;
  const bytes = await from.read(snapfile, maxSnapfileBytes);
  if (wrote.kind === machine.monitor.kind && !monitor.recognises(bytes)) {
    const name = monitorNames[wrote.kind];
    throw new SnapshotDamaged(snapfile, `is not the device state of a ${name}; --monitor says what wrote it`);
  }
  return bytes;
}

/** @returns MiB */
function assertMemory(header: MemoryHeader, from: ForeignDirectory): number {
  const { memoryBytes, builds } = header.mapping;
  const { min, max } = limits.memoryMb;
  const mebibytes = memoryBytes / 2 ** 20;
  if (!Number.isInteger(mebibytes) || mebibytes < min || mebibytes > max) {
    throw new SnapshotDamaged(
      snapshotFiles.memfileHeader,
      `is of a memory of ${memoryBytes} bytes; a sandbox has ${min} to ${max} whole MiB`,
    );
  }
  assertStored(header, (file) => from.lengths.get(file));
  for (const file of builds.map((build) => memfileName(build, header.build))) {
    if (from.length(file) <= memoryBytes) continue;
    const problem = `has ${from.length(file)} bytes, and memfile.header is of a memory of ${memoryBytes}`;
    throw new SnapshotDamaged(file, problem);
  }
  return mebibytes;
}

/** The memory becomes one file, in which a page that is stored once may be at any number of places. */
function bytesToWrite(from: ForeignDirectory, { build, mapping }: MemoryHeader): number {
  const memfiles = new Set([build, ...mapping.builds].map((one) => memfileName(one, build)));
  const others = [...from.occupied].filter(([name]) => !memfiles.has(name)).map(([, bytes]) => bytes);
  return [...others, ...mapping.bytesByBuild().values()].reduce((sum, bytes) => sum + bytes, 0);
}

async function readIdentity(from: ForeignDirectory, token: string | undefined): Promise<CapturedIdentity> {
  const { identity } = snapshotFiles;
  if (!from.has(identity)) {
    if (token !== undefined) return { access_token: token, number: unknownNumber };
    throw new ImportRefused(
      `${identity} is missing, and without its token nobody can address the guest; --token-file says where the token is`,
    );
  }
  if (token !== undefined) throw new ImportRefused(`it has ${identity}; leave the token out`);
  return jsonReader(CapturedIdentity, identity)(await from.read(identity, maxIdentityBytes));
}

/** All of it becomes one file, whatever the chain of builds was: what others start from is mapped. */
async function takeMemory(
  from: ForeignDirectory,
  { build: own, mapping }: MemoryHeader,
  to: SnapshotDirectory,
): Promise<{ build: string; sum: FileSum }> {
  const build = newBuildId();
  const memfile = to.file(snapshotFiles.memfile);
  await using files = new AsyncDisposableStack();
  const memfiles = new Map<string, FileHandle>();
  for (const owner of mapping.builds) {
    memfiles.set(owner, files.use(await from.open(memfileName(owner, own))));
  }
  const read = async (owner: string, into: Buffer, position: number) => {
    await readFully(memfiles.get(owner) as FileHandle, into, position, memfileName(owner, own));
    return into.length;
  };
  const { diff, sum } = await copyMapped(mapping, read, build, memfile);
  await chmod(memfile, modeOf(snapshotFiles.memfile));
  await writeHeader(to, {
    ...{ generation: 0, build, baseBuild: build },
    mapping: createMapping(mapping.memoryBytes, diff),
  });
  return { build, sum };
}
