/**
 * Copy-on-write disks as qcow2 overlays.
 *
 * The VM's directory gets `base.ext4`, a hard link to the base, so that a monitor which can see only its own
 * directory can open it and the base outlives its template; `lower-N.qcow2`, links to the layers of snapshots
 * that it goes on from; and `rootfs.qcow2`, the overlay.
 */
import { constants } from 'node:fs';
import { type FileHandle, link, lstat, open, readdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Disk, DiskLayer, DiskSpec } from '../disk-layer.ts';
import { emptyOverlay, maxOverlayBytes } from './header.ts';

const baseName = 'base.ext4';
const overlayName = 'rootfs.qcow2';
const lowerName = (index: number) => `lower-${index}.qcow2`;

export function createQcow2Layer(): DiskLayer {
  return { kind: 'qcow2', create, open: openLayer, base: basePath, capture, seal, remove, occupied };
}

async function create(spec: DiskSpec): Promise<Disk> {
  const lower = spec.lower ?? [];
  const image = emptyOverlay(spec.sizeBytes, baseName);
  const base = await stat(spec.base);
  if (base.size > spec.sizeBytes) {
    throw new RangeError(`The disk (${spec.sizeBytes} bytes) is smaller than its base (${base.size} bytes)`);
  }
  const made: string[] = [];
  const linkIn = async (source: string, name: string) => {
    await linkReadOnly(source, join(spec.dir, name));
    made.push(join(spec.dir, name));
  };
  try {
    await linkIn(spec.base, baseName);
    for (const [i, path] of lower.entries()) await linkIn(path, lowerName(i));
    // O_EXCL: a layer that exists holds somebody's data. O_NOFOLLOW is implied by O_CREAT | O_EXCL.
    const file = await open(
      join(spec.dir, overlayName),
      constants.O_CREAT | constants.O_EXCL | constants.O_RDWR,
      0o600,
    );
    made.push(join(spec.dir, overlayName));
    await fill(file, image, spec.uid).finally(() => file.close());
  } catch (cause) {
    for (const path of made.reverse()) await unlinkIfThere(path);
    throw cause;
  }
  return describe(spec);
}

/** Not synced: an overlay that a power cut tears belongs to a VM that the same power cut ended. */
async function fill(file: FileHandle, image: ReturnType<typeof emptyOverlay>, uid: number): Promise<void> {
  for (const { offset, bytes } of image.parts) await file.write(bytes, 0, bytes.length, offset);
  await file.truncate(image.fileBytes);
  // Last, so that nobody but root has the file open for writing while it is incomplete.
  await file.chown(uid, uid);
}

/** The monitor runs as another user and must read what lies below without being able to change it. */
async function linkReadOnly(source: string, target: string): Promise<void> {
  const { mode } = await stat(source);
  if ((mode & 0o777) !== 0o444) {
    throw new Error(`${source}, below other layers, has mode ${(mode & 0o777).toString(8)}, not 444`);
  }
  try {
    await link(source, target);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EXDEV') throw cause;
    throw new Error(`${source} and ${target} must be on one file system, for hard links`, { cause });
  }
}

async function openLayer(spec: DiskSpec): Promise<Disk> {
  const disk = describe(spec);
  await Promise.all([disk.path, join(spec.dir, baseName), ...disk.lower].map((path) => lstat(path)));
  return disk;
}

function basePath(dir: string): string {
  return join(dir, baseName);
}

async function capture(spec: Pick<DiskSpec, 'dir' | 'uid'>, target: string): Promise<void> {
  const path = join(spec.dir, overlayName);
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = await file.stat();
    if (!stat.isFile() || stat.uid !== spec.uid || stat.nlink !== 1) {
      throw new Error('The copy-on-write layer is not the file that was made for the guest');
    }
    await file.sync();
    await link(path, target);
    if ((await lstat(target)).ino !== stat.ino) {
      await unlink(target);
      throw new Error('The copy-on-write layer was changed for another file');
    }
  } finally {
    await file.close();
  }
}

async function seal(target: string): Promise<void> {
  const file = await open(target, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    await file.chown(0, 0);
    await file.chmod(0o444);
    await file.sync();
  } finally {
    await file.close();
  }
}

function describe(spec: DiskSpec): Disk {
  return {
    path: join(spec.dir, overlayName),
    format: 'qcow2',
    base: join(spec.dir, baseName),
    lower: (spec.lower ?? []).map((_, i) => join(spec.dir, lowerName(i))),
    maxFileBytes: maxOverlayBytes(spec.sizeBytes),
  };
}

async function remove(spec: Pick<DiskSpec, 'dir'>): Promise<void> {
  await unlinkIfThere(join(spec.dir, overlayName));
  const names = await readdir(spec.dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  for (const name of names) {
    if (name === baseName || /^lower-\d+\.qcow2$/.test(name)) await unlinkIfThere(join(spec.dir, name));
  }
}

/** From the blocks that the file has, never from its header: the VM's user may write that as it likes. */
async function occupied(spec: Pick<DiskSpec, 'dir'>): Promise<number> {
  const blocks = await lstat(join(spec.dir, overlayName)).then(
    (stat) => stat.blocks,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return 0;
      throw error;
    },
  );
  return blocks * 512;
}

async function unlinkIfThere(path: string): Promise<void> {
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}
