/** Makes a snapshot whose disk needs no image below it, of one that does. */
import { chown, link, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { newSandboxId } from '@perch/protocol';
import type { DiskLayer } from '../disk/index.ts';
import type { NetworkLayer } from '../network/index.ts';
import { commitSnapshot, type FileSum, type Snapshot, snapshotFiles } from '../snapshot/index.ts';
import { contentIdOf } from './disk-content.ts';
import { diskOf, type FlatCopyTarget } from './saved/index.ts';

export interface FlattenDeps {
  disks: DiskLayer;
  network: NetworkLayer;
  /** What a crash leaves there is removed at the next start, with the processes of its user. */
  vmsDir: string;
}

/** As a disk does that writes 10 MB/s. */
const timeoutMs = (diskMb: number) => 60_000 + 100 * diskMb;

/** @param from a snapshot whose disk has layers */
export async function flattenSnapshot(
  from: Snapshot,
  { temporary, final, durable }: FlatCopyTarget,
  { disks, network, vmsDir }: FlattenDeps,
): Promise<void> {
  const { directory, manifest } = from;
  await temporary.ensure();
  const sums: Record<string, FileSum> = {};
  for (const [name, sum] of Object.entries(manifest.files)) {
    if (name.startsWith('rootfs.')) continue;
    await link(directory.file(name), temporary.file(name));
    sums[name] = sum;
  }
  // A slot is a user that nobody else is; its network is not used.
  const slot = await network.acquire();
  const dir = join(vmsDir, `.flatten-${newSandboxId()}`);
  try {
    await mkdir(dir, { mode: 0o700 });
    await chown(dir, slot.uid, slot.uid);
    const { disk_mb } = manifest.machine;
    const path = await disks.flatten({
      ...{ dir, uid: slot.uid, ...diskOf(from) },
      ...{ sizeBytes: disk_mb * 2 ** 20, timeoutMs: timeoutMs(disk_mb) },
    });
    await link(path, temporary.file(snapshotFiles.rootfsExt4));
  } finally {
    await rm(dir, { recursive: true, force: true });
    await network.release(slot.number);
  }
  const { format_version: _, files: _files, ...facts } = manifest;
  const rootfs_content_id = await contentIdOf(temporary.file(snapshotFiles.rootfsExt4));
  await commitSnapshot({ ...{ temporary, final, durable, sums }, facts: { ...facts, rootfs_content_id } });
}
