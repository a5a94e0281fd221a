/**
 * Writes the state of a stopped guest. Until the commit, removing the temporary directory takes all of it
 * back; from then on the snapshot is there, whatever ends.
 */
import { chmod, link, writeFile } from 'node:fs/promises';
import type { DiskLayer } from '../../disk/index.ts';
import {
  ancestorMemfile,
  ancestorRootfsCow,
  commitSnapshot,
  copyMemory,
  createMapping,
  type FileSum,
  mergeMapping,
  newBuildId,
  type Snapshot,
  type SnapshotDirectory,
  snapshotFiles,
  writeHeader,
  writeRootfsMeta,
} from '../../snapshot/index.ts';
import type { MonitorMachine, Vm } from '../../vmm/index.ts';
import type { HeldIdentity, SandboxRecord } from '../journal.ts';
import { Stopwatch } from '../stopwatch.ts';
import type { CapturedIdentity } from './identity.ts';
import { flatMemoryOf, mappingOf } from './memory.ts';

export interface Capture {
  record: SandboxRecord;
  identity: HeldIdentity;
  vm: Vm;
  /** The VM's directory and user. */
  dir: string;
  uid: number;
  /** Gives up between two steps. */
  signal: AbortSignal;
}

export interface CaptureTarget {
  temporary: SnapshotDirectory;
  final: SnapshotDirectory;
  /** What the guest went on from; undefined when it was booted. */
  parent: Snapshot | undefined;
  /** The image below all layers, and its checksum. */
  base: { path: string; sum: FileSum };
  disks: DiskLayer;
  machine: MonitorMachine;
}

type Sums = Record<string, FileSum>;

/** @returns milliseconds of each stage */
export async function capture(from: Capture, to: CaptureTarget): Promise<Record<string, number>> {
  const { vm, record, signal } = from;
  const stages = new Stopwatch();
  const lap = (stage: string) => {
    stages.lap(stage);
    signal.throwIfAborted();
  };
  const build = newBuildId();
  const sums: Sums = {};
  await to.temporary.ensure();
  await vm.freeze();
  lap('freeze');
  const snapfile = to.temporary.file(snapshotFiles.snapfile);
  await writeFile(snapfile, await vm.saveDevices(), { flag: 'wx' });
  await chmod(snapfile, readableByVms);
  lap('device_state');
  await captureMemory(from, to, build, sums);
  lap('memory');
  await captureDisk(from, to, sums);
  await writeIdentity(from.identity, to.temporary);
  lap('disk');
  const { kind, version, accelerator, cpu } = to.machine;
  await commitSnapshot({
    temporary: to.temporary,
    final: to.final,
    facts: {
      kind: 'pause',
      created_at: new Date().toISOString(),
      build_id: build,
      parent: to.parent?.manifest.build_id ?? null,
      monitor: { kind, version, accelerator },
      cpu,
      machine: { vcpus: record.vcpus, memory_mb: record.memory_mb, disk_mb: record.disk_mb },
      kernel_content_id: record.kernel,
      initramfs_content_id: record.initramfs,
    },
    sums,
  });
  stages.lap('commit');
  return stages.laps;
}

/** VMs get hard links of what they go on from. */
const readableByVms = 0o444;

async function captureMemory(
  { vm, record }: Capture,
  { temporary, parent }: CaptureTarget,
  build: string,
  sums: Sums,
): Promise<void> {
  const memory = vm.memory();
  const memoryBytes = record.memory_mb * 2 ** 20;
  const copy = await copyMemory({
    source: memory,
    dirty: memory.changed(),
    memoryBytes,
    build,
    path: temporary.file(snapshotFiles.memfile),
    layout: parent ? 'compact' : 'flat',
  });
  await chmod(temporary.file(snapshotFiles.memfile), readableByVms);
  sums[snapshotFiles.memfile] = copy.sum;
  if (!parent) {
    const mapping = createMapping(memoryBytes, copy.diff);
    await writeHeader(temporary, { generation: 0, build, baseBuild: build, mapping });
    return;
  }
  const flat = flatMemoryOf(parent);
  const mapping = mergeMapping(await mappingOf(flat, memoryBytes), copy.diff);
  const generation = parent.header.generation + 1;
  await writeHeader(temporary, { generation, build, baseBuild: flat.build, mapping });
  await inherit(parent, flat.path, temporary, ancestorMemfile(flat.build), sums);
}

async function captureDisk(
  { record, dir, uid }: Capture,
  { temporary, parent, base, disks }: CaptureTarget,
  sums: Sums,
): Promise<void> {
  const { rootfsBase, rootfsCow } = snapshotFiles;
  await disks.capture({ dir, uid }, temporary.file(rootfsCow));
  await link(base.path, temporary.file(rootfsBase));
  sums[rootfsBase] = base.sum;
  const layers = [...(parent?.rootfs?.layers ?? [])];
  for (const layer of layers) {
    const name = ancestorRootfsCow(layer);
    await inherit(parent, parent?.directory.file(name), temporary, name, sums);
  }
  if (parent) {
    const layer = parent.manifest.build_id;
    await inherit(parent, parent.directory.file(rootfsCow), temporary, ancestorRootfsCow(layer), sums);
    layers.push(layer);
  }
  await writeRootfsMeta(temporary, {
    base_template: record.template,
    base_content_id: record.base,
    format: disks.kind,
    disk_bytes: record.disk_mb * 2 ** 20,
    layers,
  });
}

/** A second name for a file of the parent, whose checksum is known. */
async function inherit(
  parent: Snapshot | undefined,
  path: string | undefined,
  to: SnapshotDirectory,
  name: string,
  sums: Sums,
): Promise<void> {
  if (!parent || path === undefined) return;
  await link(path, to.file(name));
  const known = Object.entries(parent.manifest.files).find(([file]) => parent.directory.file(file) === path);
  if (known) sums[name] = known[1];
}

async function writeIdentity(identity: HeldIdentity, to: SnapshotDirectory): Promise<void> {
  const captured: CapturedIdentity = { access_token: identity.accessToken, number: identity.number };
  await writeFile(to.file(snapshotFiles.identity), JSON.stringify(captured), { mode: 0o600, flag: 'wx' });
}
