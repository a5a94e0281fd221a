/** How a guest that goes on gets its memory. Pure. */

/** By the value of `PERCH_RESTORE`; the first is the default. */
export const restoreSettings = ['auto', 'file', 'reflink', 'pager'] as const;
export type RestoreSetting = (typeof restoreSettings)[number];

/**
 * - `mapped`: Firecracker maps the one memfile that the image is, and all who go on from it share its page cache
 * - `composed`: it maps one file whose blocks are those of the memfiles
 * - `copied`: it maps one file with a copy of everything
 * - `paged`: a process of its own puts each page in place when the guest asks for it
 */
export type MemoryWay = 'mapped' | 'composed' | 'copied' | 'paged';

export interface MemoryMeans {
  setting: RestoreSetting;
  /** Whether files of the data directory can share blocks. */
  hasReflinks: boolean;
  hasPager: boolean;
}

/** @param isOneFile whether one memfile is all of the image */
export function memoryWay({ setting, hasReflinks, hasPager }: MemoryMeans, isOneFile: boolean): MemoryWay {
  if (setting === 'pager') return 'paged';
  if (isOneFile) return 'mapped';
  if (setting === 'file') return 'copied';
  if (setting === 'reflink' || hasReflinks) return 'composed';
  return hasPager ? 'paged' : 'copied';
}

/** Whether memory may be copied, which takes room on the disk. */
export function mayCopy(means: MemoryMeans): boolean {
  return memoryWay(means, false) === 'copied';
}

/** The reason that a host cannot do as it is told: a sentence with its remedy. */
export function meansLacking({ setting, hasReflinks, hasPager }: MemoryMeans): string | undefined {
  if (setting === 'reflink' && !hasReflinks)
    return 'PERCH_RESTORE is reflink, and the data directory has no reflinks: set PERCH_DATA_DIR to an XFS (mkfs.xfs), or leave PERCH_RESTORE away.';
  if (setting === 'pager' && !hasPager)
    return 'PERCH_RESTORE is pager, and there is no perch-pager: `npm run setup` builds it, PERCH_PAGER names another.';
  return undefined;
}
