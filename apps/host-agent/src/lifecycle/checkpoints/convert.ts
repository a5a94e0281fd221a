/** Makes a snapshot whose disk has layers of another format, of one that a host with another kind of disk wrote. */
import { link } from 'node:fs/promises';
import type { LayerFormat } from '@perch/protocol';
import { convertLayers } from '../../disk/index.ts';
import { failpoint } from '../../failpoints/index.ts';
import {
  commitSnapshot,
  type Snapshot,
  snapshotFiles,
  sumFile,
  verifyFiles,
  writeRootfsMeta,
} from '../../snapshot/index.ts';
import { assertBase, diskOf } from './disk.ts';
import type { FlatCopyTarget } from './flat-copy.ts';
import { type LayersUserDeps, withLayersUser } from './layers-user.ts';
import { factsOf, layerFiles, shareFiles } from './parts.ts';

export type ConvertDeps = LayersUserDeps;

export interface ConvertHow {
  signal?: AbortSignal | undefined;
  /** Awaited before each step of a few MiB, when nobody waits for it. */
  rest?: () => Promise<void>;
}

/**
 * Build, parent and time stay, since it is the same state. One whose disk stands alone has nothing to convert.
 * @throws PerchError capacity_exhausted; SnapshotDamaged, also when the image below is another: parts that are the
 *   same as the image's are left out; Error for layers that cannot be read
 */
export async function convertSnapshot(
  from: Snapshot,
  format: LayerFormat,
  { temporary, final, durable }: FlatCopyTarget,
  deps: ConvertDeps,
  { signal, rest }: ConvertHow = {},
): Promise<void> {
  const { rootfs, manifest } = from;
  const disk = diskOf(from);
  if (!rootfs || disk.format === 'image') throw new Error('A disk that stands alone has no layers.');
  await assertBase(from);
  const anew = layerFiles(from);
  const pace = async () => {
    signal?.throwIfAborted();
    await rest?.();
  };
  await verifyFiles(from, anew, pace);
  await temporary.ensure();
  const sums = await shareFiles(from, temporary, anew);
  failpoint('convert.linked');
  await withLayersUser('convert', manifest.machine.disk_mb, deps, async (tool) => {
    const made = await convertLayers(disk, format, { ...tool, ...(signal ? { signal } : {}), rest });
    failpoint('convert.written');
    await link(made, temporary.file(snapshotFiles.rootfsCow));
  });
  await writeRootfsMeta(temporary, { ...rootfs, format, layers: [] });
  const { rootfsCow } = snapshotFiles;
  sums[rootfsCow] = await sumFile(temporary.file(rootfsCow), rootfsCow, pace);
  await commitSnapshot({
    ...{ temporary, final, durable, sums },
    facts: { ...factsOf(from), disk: { format } },
  });
}
