/** The ways in which this host can use the layers of a disk. */
import { type RootfsMeta, snapshotFiles } from '../../../snapshot/index.ts';
import { ImportRefused } from './refused.ts';
import type { ImportHost } from './request.ts';

/** @throws ImportRefused */
export function assertFormat(format: RootfsMeta['format'], { capabilities }: ImportHost['disks']): void {
  if (format === capabilities.format) return;
  throw new ImportRefused(
    `${snapshotFiles.rootfsCow} is of the format ${format}, and this host has ${capabilities.format}; flatten it where it was made`,
  );
}
