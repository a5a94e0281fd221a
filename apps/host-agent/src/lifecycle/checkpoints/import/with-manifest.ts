/** A directory that is a snapshot already: it is taken as it is, when every byte is what its manifest says. */
import { limits } from '@perch/protocol';
import { failpoint } from '../../../failpoints/index.ts';
import {
  commitSnapshot,
  decodeManifest,
  decodeRootfsMeta,
  type ForeignDirectory,
  type Manifest,
  maxManifestBytes,
  maxRootfsMetaBytes,
  SnapshotDamaged,
  snapshotFiles,
  verifySnapshot,
} from '../../../snapshot/index.ts';
import type { FlatCopyTarget } from '../flat-copy.ts';
import { modeOf } from './modes.ts';
import { ImportRefused } from './refused.ts';

/** @throws SnapshotDamaged, ImportRefused when no sandbox could be of it */
export async function takeSnapshot(from: ForeignDirectory, to: FlatCopyTarget): Promise<void> {
  const { manifest: manifestName } = snapshotFiles;
  const manifest = decodeManifest(await from.read(manifestName, maxManifestBytes));
  for (const [name, { length }] of Object.entries(manifest.files)) {
    const found = from.length(name);
    if (found !== length) throw new SnapshotDamaged(name, `has ${found} bytes instead of ${length}`);
  }
  for (const name of from.lengths.keys()) {
    if (name === manifestName || Object.hasOwn(manifest.files, name)) continue;
    throw new SnapshotDamaged(name, 'is not in the manifest');
  }
  assertMachine(manifest);
  await assertDisk(from, manifest);
  const { temporary, final, durable } = to;
  await temporary.ensure();
  for (const name of Object.keys(manifest.files)) await from.copy(name, temporary.file(name), modeOf(name));
  failpoint('import.copied');
  const { format_version: _, files: sums, ...facts } = manifest;
  await commitSnapshot({ temporary, final, facts, sums, durable });
  await verifySnapshot(final);
}

/** Sandboxes of one that is beyond what a create may ask for could never be made. */
function assertMachine({ machine }: Manifest): void {
  const bounds = { vcpus: limits.vcpus, memory_mb: limits.memoryMb, disk_mb: limits.diskMb };
  for (const [what, { min, max }] of Object.entries(bounds)) {
    const value = machine[what as keyof typeof machine];
    if (value >= min && value <= max) continue;
    throw new ImportRefused(`it is of a machine with ${what} ${value}; a sandbox has ${min} to ${max}`);
  }
}

/** The quota of a sandbox and what its monitor opens follow from the manifest and are not looked up in its disk. */
async function assertDisk(from: ForeignDirectory, { machine, files }: Manifest): Promise<void> {
  const { rootfsMeta, rootfsExt4 } = snapshotFiles;
  const says = machine.disk_mb * 2 ** 20;
  if (!Object.hasOwn(files, rootfsMeta)) {
    const length = files[rootfsExt4]?.length;
    if (length === undefined || length === says) return;
    throw new SnapshotDamaged(rootfsExt4, `has ${length} bytes, and its manifest is of a disk of ${says}`);
  }
  const { disk_bytes } = decodeRootfsMeta(await from.read(rootfsMeta, maxRootfsMetaBytes));
  if (disk_bytes === says) return;
  throw new SnapshotDamaged(rootfsMeta, `is of a disk of ${disk_bytes} bytes, and its manifest of ${says}`);
}
