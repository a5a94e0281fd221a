/**
 * Makes a snapshot of a directory that others made. The snapshot is of what was read and copied, and that is checked
 * before it gets its name: whoever still writes to the directory changes nothing of it.
 */
import { resolve } from 'node:path';
import { PerchError } from '@perch/protocol';
import { failpoint } from '../../../failpoints/index.ts';
import { ForeignDirectory, SnapshotDamaged, snapshotFiles } from '../../../snapshot/index.ts';
import type { FlatCopyTarget } from '../flat-copy.ts';
import { takeOlderLayout } from './older-layout.ts';
import { ImportRefused } from './refused.ts';
import type { Assumed, ImportHost, ImportRequest } from './request.ts';
import { takeSnapshot } from './with-manifest.ts';

/**
 * @returns what was taken from this host, since nobody said it
 * @throws PerchError import_refused, capacity_exhausted; what is at `to` is the caller's to remove
 */
export async function importSnapshot(
  request: ImportRequest,
  to: FlatCopyTarget,
  host: ImportHost,
): Promise<Assumed> {
  const { directory } = request;
  try {
    if (resolve(directory) !== directory) {
      throw new ImportRefused('the path is not plain; name it without "..", as realpath does');
    }
    await using from = await ForeignDirectory.open(directory);
    const assumed = await take(from, to, request, host);
    failpoint('import.checked');
    return assumed;
  } catch (cause) {
    if (!(cause instanceof SnapshotDamaged || cause instanceof ImportRefused)) throw cause;
    const reason = cause.message;
    const message = `${directory} cannot be imported: ${reason}.`;
    throw new PerchError('import_refused', message, { directory, reason }, { cause });
  }
}

async function take(
  from: ForeignDirectory,
  to: FlatCopyTarget,
  request: ImportRequest,
  host: ImportHost,
): Promise<Assumed> {
  if (!from.has(snapshotFiles.manifest)) return takeOlderLayout(from, to, request, host);
  assertNothingSaid(request);
  const bytes = [...from.occupied.values()].reduce((sum, one) => sum + one, 0);
  await host.room.require(bytes, `A copy of ${request.directory}`);
  await takeSnapshot(from, to);
  return [];
}

function assertNothingSaid({ facts, access_token }: ImportRequest): void {
  const said = [...Object.keys(facts), ...(access_token === undefined ? [] : ['access_token'])];
  if (said.length === 0) return;
  throw new ImportRefused(`its manifest says all that there is to say; leave out ${said.join(', ')}`);
}
