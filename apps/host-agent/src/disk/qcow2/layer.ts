/**
 * Copy-on-write disks as qcow2 overlays.
 *
 * The VM's directory gets two files: `base.ext4`, a hard link to the base, so that a monitor which can see
 * only its own directory can open it and the base outlives its template; and `rootfs.qcow2`, the overlay.
 */
import { constants } from 'node:fs';
import { type FileHandle, link, lstat, open, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Disk, DiskLayer, DiskSpec } from '../disk-layer.ts';
import { emptyOverlay, maxOverlayBytes } from './header.ts';

const baseName = 'base.ext4';
const overlayName = 'rootfs.qcow2';

export function createQcow2Layer(): DiskLayer {
  return { kind: 'qcow2', create, open: openLayer, remove, occupied };
}

async function create(spec: DiskSpec): Promise<Disk> {
  const image = emptyOverlay(spec.sizeBytes, baseName);
  const base = await stat(spec.base);
  if (base.size > spec.sizeBytes) {
    throw new RangeError(`The disk (${spec.sizeBytes} bytes) is smaller than its base (${base.size} bytes)`);
  }
  // The monitor runs as another user and must read the base without being able to change it.
  if ((base.mode & 0o777) !== 0o444) {
    throw new Error(`The base image ${spec.base} has mode ${(base.mode & 0o777).toString(8)}, not 444`);
  }
  const made: string[] = [];
  try {
    await linkBase(spec);
    made.push(join(spec.dir, baseName));
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

async function linkBase(spec: DiskSpec): Promise<void> {
  try {
    await link(spec.base, join(spec.dir, baseName));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EXDEV') throw cause;
    throw new Error(`${spec.base} and ${spec.dir} must be on one file system, for hard links`, { cause });
  }
}

async function openLayer(spec: DiskSpec): Promise<Disk> {
  await Promise.all([lstat(join(spec.dir, overlayName)), lstat(join(spec.dir, baseName))]);
  return describe(spec);
}

function describe(spec: DiskSpec): Disk {
  return {
    path: join(spec.dir, overlayName),
    format: 'qcow2',
    base: join(spec.dir, baseName),
    maxFileBytes: maxOverlayBytes(spec.sizeBytes),
  };
}

async function remove(spec: Pick<DiskSpec, 'dir'>): Promise<void> {
  await unlinkIfThere(join(spec.dir, overlayName));
  await unlinkIfThere(join(spec.dir, baseName));
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
