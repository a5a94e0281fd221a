/** Gives the disk of a snapshot with a name layers of a format, in its place. */
import { type LayerFormat, PerchError } from '@perch/protocol';
import { SnapshotDamaged } from '../../snapshot/index.ts';
import { type ConvertDeps, convertSnapshot } from './convert.ts';
import type { SnapshotStore } from './snapshot-store.ts';

/**
 * A snapshot that has that format, or whose disk stands alone, stays as it is.
 * @throws PerchError snapshot_not_found, snapshot_in_use, snapshot_damaged, capacity_exhausted, host_disk_full,
 *   conversion_failed, also when `signal` was aborted
 */
export async function convertNamed(
  name: string,
  format: LayerFormat,
  deps: ConvertDeps & { snapshots: SnapshotStore },
  signal?: AbortSignal,
): Promise<void> {
  const { disk_format: has } = await deps.snapshots.get(name);
  if (has === 'image' || has === format) return;
  try {
    await deps.snapshots.change(name, (from, to) => convertSnapshot(from, format, to, deps, { signal }));
  } catch (cause) {
    if (cause instanceof PerchError) throw cause;
    if (cause instanceof SnapshotDamaged) throw cause.toPerchError(name);
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `The snapshot ${name} cannot be converted. ${reason}`;
    throw new PerchError('conversion_failed', message, { id: name, reason }, { cause });
  }
}
