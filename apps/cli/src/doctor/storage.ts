/** The file system of the data directory. */
import { constants, existsSync } from 'node:fs';
import { copyFile, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { deviceMapperObstacle } from '@perch/node-kit';
import type { Settings } from '@perch/protocol';
import { wantedDisks } from './disks.ts';
import { type Finding, ok, problem, warning } from './finding.ts';

const leastFreeGib = 2;
const goodFreeGib = 10;

/** Of those that are worth a name; see statfs(2). */
const types: Record<number, string> = {
  61267: 'ext4',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  16914836: 'tmpfs',
  2035054128: 'overlayfs',
  801189825: 'zfs',
};

export async function storage({ dataDir }: Settings): Promise<Finding[]> {
  const folder = nearest(dataDir);
  const { type, bavail, bsize } = await statfs(folder);
  const kind = types[type] ?? `type 0x${type.toString(16)}`;
  return [space(dataDir, (bavail * bsize) / 2 ** 30), await reflinks(dataDir, folder, kind)];
}

function space(dataDir: string, freeGib: number): Finding {
  const name = 'disk space';
  const detail = `${freeGib.toFixed(1)} GiB are free at ${dataDir}`;
  const remedy = 'Free some, or set PERCH_DATA_DIR to a larger disk.';
  if (freeGib < leastFreeGib) return problem(name, detail, remedy);
  return freeGib < goodFreeGib ? warning(name, detail, remedy) : ok(name, detail);
}

/** Tried, not guessed from the type: XFS has them or not. */
async function reflinks(dataDir: string, folder: string, kind: string): Promise<Finding> {
  const name = 'data directory';
  const test = await mkdtemp(join(folder, '.perch-doctor-')).catch(() => undefined);
  if (!test) return warning(name, `${dataDir} on ${kind} may not be written by this user`, 'Run it as root.');
  try {
    const [from, to] = [join(test, 'a'), join(test, 'b')];
    await writeFile(from, Buffer.alloc(4096));
    const cloned = await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE).then(
      () => true,
      () => false,
    );
    if (kind === 'tmpfs') {
      return warning(
        name,
        `${dataDir} is on tmpfs`,
        'Sandboxes take memory for disk, and a reboot loses all. Set PERCH_DATA_DIR.',
      );
    }
    return cloning(`${dataDir} on ${kind}`, cloned, wantedDisks(), deviceMapperObstacle() === undefined);
  } finally {
    await rm(test, { recursive: true, force: true });
  }
}

/**
 * @param disks the value of PERCH_ROOTFS: a disk of device-mapper is copied while its guest stands still
 * @param deviceMapper whether the machine can have those
 */
export function cloning(where: string, cloned: boolean, disks: string, deviceMapper: boolean): Finding {
  const name = 'data directory';
  if (cloned) return ok(name, `${where}, with reflinks`);
  const detail = `${where}, without reflinks: copies of disks take time and space`;
  if (disks !== 'device-mapper') {
    const better = '; with an XFS (mkfs.xfs) at PERCH_DATA_DIR sandboxes get disks of device-mapper';
    return ok(name, disks === 'auto' && deviceMapper ? detail + better : detail);
  }
  return warning(
    name,
    `${detail}, and guests stand still meanwhile`,
    'For device-mapper set PERCH_DATA_DIR to an XFS (mkfs.xfs), where copies share their blocks.',
  );
}

/** The folder itself, or the one it will be made in. */
function nearest(path: string): string {
  return existsSync(path) || path === '/' ? path : nearest(dirname(path));
}
