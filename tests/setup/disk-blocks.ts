/** The room that a data directory occupies on the disk, told by blocks and inodes alone, and whose it is. */
import { type BigIntStats, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isSnapshotFile } from '../../apps/host-agent/src/snapshot/layout.ts';

/** A file or a directory by one of its names. */
export interface Entry {
  /** Below the data directory. */
  path: string;
  /** The same for all names of one file. */
  inode: string;
  /** Blocks of 512 bytes, in bytes. */
  bytes: number;
}

/** All there is, by id and by name. */
export interface Owners {
  /** Machines that run: sandboxes, and guests that stand ready. */
  machines: readonly string[];
  sandboxes: readonly string[];
  /** Sandboxes of which a state may be half written: they have failed. */
  failed: readonly string[];
  snapshots: readonly string[];
}

/** Folders of what comes and goes with sandboxes and snapshots. */
const passing = ['host/vms', 'sandboxes', 'snapshots', 'control/uploads'];
/** Folders of what is kept on purpose, for all sandboxes. */
const lasting = ['images', 'host/boot', 'boot-snapshots'];

const imageFiles = ['rootfs.ext4', 'content-id'];
const bootFile = /^(vmlinuz|initramfs|perch-pager)-[0-9a-f]{64}$/;
const snapshotKey = /^[0-9a-f]{32}$/;
const checkpoint = /^\d+$/;

/** All there is below these folders, without the folders. Files that go meanwhile are left out. */
export function entriesOf(dataDir: string): Entry[] {
  return [...lasting, ...passing].flatMap((folder) => below(dataDir, folder));
}

/** Files that nobody has, the largest first. */
export function unowned(entries: readonly Entry[], owners: Owners): Entry[] {
  return entries.filter(({ path }) => !isOwned(path, owners)).toSorted((a, b) => b.bytes - a.bytes);
}

/** Bytes of each folder that lasts, and of what comes and goes without the files that it shares with those. */
export function occupied(entries: readonly Entry[]): Record<string, number> {
  const counted = new Set<string>();
  const sum = (folders: readonly string[]) => {
    let bytes = 0;
    for (const { path, inode, bytes: own } of entries) {
      if (counted.has(inode) || !folders.some((folder) => path.startsWith(`${folder}/`))) continue;
      counted.add(inode);
      bytes += own;
    }
    return bytes;
  };
  const each = lasting.map((folder) => [folder, sum([folder])] as const);
  return { ...Object.fromEntries(each), passing: sum(passing) };
}

/** Directories of snapshots that have no manifest, which is written last and removed first: half of one is a leak. */
export function halves(entries: readonly Entry[], { failed }: Pick<Owners, 'failed'>): string[] {
  const paths = new Set(entries.map(({ path }) => path));
  return [...paths].filter((path) => {
    const [folder, name = '', ...more] = path.split('/');
    const isSnapshot =
      (folder === 'sandboxes' && more.length === 1 && !failed.includes(name)) ||
      ((folder === 'snapshots' || folder === 'boot-snapshots') && more.length === 0);
    return isSnapshot && !paths.has(`${path}/manifest.json`);
  });
}

function isOwned(path: string, { machines, sandboxes, failed, snapshots }: Owners): boolean {
  const [folder, ...names] = path.split('/');
  const [first = '', second, third, ...more] = folder === 'host' ? names.slice(1) : names;
  if (path.startsWith('host/vms/')) return machines.includes(first);
  if (path.startsWith('host/boot/')) return bootFile.test(first) && second === undefined;
  if (folder === 'sandboxes') {
    if (failed.includes(first)) return true;
    const isCheckpoint = second === undefined || checkpoint.test(second);
    return sandboxes.includes(first) && isCheckpoint && isFileOf(third, more);
  }
  if (folder === 'snapshots') return snapshots.includes(first) && isFileOf(second, [third, ...more]);
  if (folder === 'boot-snapshots') return snapshotKey.test(first) && isFileOf(second, [third, ...more]);
  if (folder === 'images')
    return !first.startsWith('.') && (second === undefined || imageFiles.includes(second));
  return false;
}

function isFileOf(name: string | undefined, deeper: readonly (string | undefined)[]): boolean {
  return (name === undefined || isSnapshotFile(name)) && deeper.every((one) => one === undefined);
}

function below(dataDir: string, folder: string): Entry[] {
  const names = ifThere(() => readdirSync(join(dataDir, folder))) ?? [];
  return names.flatMap((name) => {
    const path = `${folder}/${name}`;
    const stat = ifThere((): BigIntStats => lstatSync(join(dataDir, path), { bigint: true }));
    if (!stat) return [];
    const entry = { path, inode: `${stat.dev}:${stat.ino}`, bytes: Number(stat.blocks) * 512 };
    return stat.isDirectory() ? [entry, ...below(dataDir, path)] : [entry];
  });
}

function ifThere<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
