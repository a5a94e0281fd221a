/**
 * Stops a guest and writes its state. Until the commit, removing the temporary directory takes all of it back;
 * from then on the snapshot is there, whatever ends.
 */
import { chmod, link, writeFile } from 'node:fs/promises';
import type { HostMachine } from '@perch/protocol';
import { type DiskBackend, type DiskCapture, layersOf } from '../../disk/index.ts';
import { type CaptureStep, failpoint } from '../../failpoints/index.ts';
import {
  ancestorMemfile,
  ancestorRootfsCow,
  type BuildId,
  commitSnapshot,
  copyDifference,
  type FileSum,
  headerOf,
  inheritedBuilds,
  isInTooManyFiles,
  type MemoryHeader,
  type MemoryImage,
  maxMemfiles,
  newBuildId,
  readableByVms,
  type Snapshot,
  type SnapshotDirectory,
  snapshotFiles,
  writeHeader,
  writeRootfsMeta,
} from '../../snapshot/index.ts';
import type { Vm } from '../../vmm/index.ts';
import { captured, type HeldIdentity, type SandboxRecord, Stopwatch } from '../journal/index.ts';
import { diskOf } from './disk.ts';
import { type CapturedIdentity, toCaptured } from './identity.ts';

export interface Capture {
  record: SandboxRecord;
  identity: HeldIdentity;
  vm: Vm;
  /** The VM's directory and user. */
  dir: string;
  uid: number;
  /** `snapshot`: the guest runs on as soon as its state is its own; `pause`: it stays stopped. */
  kind: 'pause' | 'snapshot';
  /** Whether its memory is written. Else only its disk is, which it must have written out. */
  memory: boolean;
  /** Called when nothing is left to be done but to stop the guest, which holds its disk for a short time only. */
  hold?: () => Promise<void>;
  /** Whether it must be there after a power cut. */
  durable: boolean;
  /** Gives up between two steps. */
  signal: AbortSignal;
}

export interface CaptureTarget {
  temporary: SnapshotDirectory;
  final: SnapshotDirectory;
  /** The snapshot that the disk of the guest went on from; undefined when that is the image. */
  parent: Snapshot | undefined;
  /** The memory that the guest went on from, or was saved as last; undefined when it was booted. */
  parentMemory: MemoryImage | undefined;
  /** The image below all layers, and its checksum. */
  base: { path: string; sum: FileSum };
  disks: DiskBackend;
  machine: HostMachine;
}

type Sums = Record<string, FileSum>;

/** @returns milliseconds of each stage; `frozen` of a guest that runs on */
export async function capture(from: Capture, to: CaptureTarget): Promise<Record<string, number>> {
  const { vm, record, signal } = from;
  const build = newBuildId();
  const runsOn = from.kind === 'snapshot';
  if (runsOn) assertMayGrow(to.parentMemory);
  await to.temporary.ensure();
  const place = { id: record.vm, dir: from.dir, uid: from.uid, sizeBytes: diskBytes(record) };
  const disk = await to.disks.prepareCapture(place, runsOn ? vm : undefined);
  captured(record, 'begun');
  const stages = new Stopwatch();
  const lap = (stage: CaptureStep, name: string = stage) => {
    captured(record, stage);
    stages.lap(name);
    signal.throwIfAborted();
  };
  if (from.hold) {
    await from.hold();
    stages.lap('hold');
    signal.throwIfAborted();
  }
  await vm.freeze();
  lap('frozen', 'freeze');
  const sums: Sums = {};
  const describe = from.memory ? await captureMemory(from, to, build, sums, lap) : undefined;
  if (runsOn) {
    await disk.holdStill();
    failpoint('copy.switched');
    await vm.thaw();
    failpoint('copy.thawed');
    stages.lap('switch');
    stages.laps.frozen = stages.laps.total ?? 0;
  }
  await describe?.();
  await captureDisk(from, to, disk, sums);
  lap('disk');
  const identity = toCaptured(from.identity);
  await writeIdentity(identity, to.temporary);
  captured(record, 'before_commit');
  await commitSnapshot({
    temporary: to.temporary,
    final: to.final,
    facts: {
      kind: from.kind,
      sandbox_id: record.id,
      template: to.parent?.manifest.template ?? record.template,
      created_at: new Date().toISOString(),
      build_id: build,
      parent: to.parent?.manifest.build_id ?? null,
      ...to.machine,
      machine: { vcpus: record.vcpus, memory_mb: record.memory_mb, disk_mb: record.disk_mb },
      kernel_content_id: record.kernel,
      initramfs_content_id: record.initramfs,
      ...(from.memory ? {} : { memory: false }),
      ...(identity.env ? { env: true } : {}),
    },
    sums,
    durable: from.durable,
  });
  captured(record, 'committed');
  stages.lap('commit');
  return stages.laps;
}

/**
 * A copy of a guest that runs can add a file to its memory, and nothing is merged before it is paused. A pause is never
 * refused: its state is merged before anything goes on from it.
 */
function assertMayGrow(memory: MemoryImage | undefined): void {
  if (!memory || !isInTooManyFiles(memory.header)) return;
  throw new Error(
    `Its memory is in more than ${maxMemfiles} files, and cannot get more while it runs: they are merged once it is paused.`,
  );
}

function diskBytes({ disk_mb }: SandboxRecord): number {
  return disk_mb * 2 ** 20;
}

function memoryBytes({ memory_mb }: SandboxRecord): number {
  return memory_mb * 2 ** 20;
}

/**
 * Writes device state and memory of a guest that stands still.
 * @returns what is to be called when it may run again: says what the pages mean over those of the parent
 */
async function captureMemory(
  { vm, record }: Capture,
  to: CaptureTarget,
  build: BuildId,
  sums: Sums,
  lap: (stage: CaptureStep) => void,
): Promise<() => Promise<void>> {
  const { temporary, parentMemory: parent } = to;
  const snapfile = temporary.file(snapshotFiles.snapfile);
  const state = await vm.saveState(build, parent?.header.build);
  await writeFile(snapfile, state.devices, { flag: 'wx' });
  await chmod(snapfile, readableByVms);
  lap('device_state');
  const target = { build, memoryBytes: memoryBytes(record), parent };
  const memory = await copyDifference(state.memory, target, temporary.file(snapshotFiles.memfile));
  lap('memory');
  sums[snapshotFiles.memfile] = memory.sum;
  return async () => describeMemory(await headerOf(state.memory.since, memory.diff, target), to, sums);
}

async function describeMemory(
  header: MemoryHeader,
  { temporary, parent, parentMemory }: CaptureTarget,
  sums: Sums,
): Promise<void> {
  await writeHeader(temporary, header);
  for (const build of parentMemory ? inheritedBuilds(header) : []) {
    await inherit(parent, parentMemory?.memfileOf(build), temporary, ancestorMemfile(build), sums);
  }
}

/** The files of the parent that the disk goes on from get names of this state, each by its build; so do new ones. */
async function captureDisk(
  { record }: Capture,
  { temporary, parent, base, disks }: CaptureTarget,
  disk: DiskCapture,
  sums: Sums,
): Promise<void> {
  const { rootfsBase, rootfsCow } = snapshotFiles;
  await link(base.path, temporary.file(rootfsBase));
  sums[rootfsBase] = base.sum;
  const before = parent ? diskOf(parent) : ({ format: 'image', image: base.path } as const);
  const builds = new Map<string, string>();
  if (parent?.rootfs) {
    const made = [...parent.rootfs.layers, parent.manifest.build_id];
    for (const [i, path] of layersOf(before).entries()) builds.set(path, made[i] ?? '');
  }
  const state = await disk.write(before, (place) => {
    if (place === 'uppermost') return temporary.file(rootfsCow);
    const layer = newBuildId();
    const path = temporary.file(ancestorRootfsCow(layer));
    builds.set(path, layer);
    return path;
  });
  const layers: string[] = [];
  for (const path of layersOf(state).slice(0, -1)) {
    const layer = builds.get(path);
    if (layer === undefined) throw new Error(`${path} is of no build`);
    layers.push(layer);
    const target = temporary.file(ancestorRootfsCow(layer));
    if (target !== path) await inherit(parent, path, temporary, ancestorRootfsCow(layer), sums);
  }
  await writeRootfsMeta(temporary, {
    base_template: parent?.manifest.template ?? record.template,
    base_content_id: record.base,
    format: disks.capabilities.format,
    disk_bytes: diskBytes(record),
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

async function writeIdentity(identity: CapturedIdentity, to: SnapshotDirectory): Promise<void> {
  await writeFile(to.file(snapshotFiles.identity), JSON.stringify(identity), { mode: 0o600, flag: 'wx' });
}
