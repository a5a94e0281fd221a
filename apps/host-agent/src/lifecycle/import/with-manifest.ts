/** A directory that is a snapshot already: it is taken as it is, when every byte is what its manifest says. */
import {
  commitSnapshot,
  decodeManifest,
  type ForeignDirectory,
  maxManifestBytes,
  SnapshotDamaged,
  snapshotFiles,
  verifySnapshot,
} from '../../snapshot/index.ts';
import type { FlatCopyTarget } from '../saved/index.ts';
import { modeOf } from './modes.ts';

/** @throws SnapshotDamaged */
export async function takeSnapshot(from: ForeignDirectory, to: FlatCopyTarget): Promise<void> {
  const { manifest: manifestName } = snapshotFiles;
  const manifest = decodeManifest(await from.read(manifestName, maxManifestBytes));
  for (const [name, { length }] of Object.entries(manifest.files)) {
    const found = from.length(name);
    if (found !== length) throw new SnapshotDamaged(name, `has ${found} bytes instead of ${length}`);
  }
  for (const name of from.lengths.keys()) {
    if (name === manifestName || Object.hasOwn(manifest.files, name)) continue;
    throw new SnapshotDamaged(name, 'is not in the manifest');
  }
  const { temporary, final, durable } = to;
  await temporary.ensure();
  for (const name of Object.keys(manifest.files)) await from.copy(name, temporary.file(name), modeOf(name));
  const { format_version: _, files: sums, ...facts } = manifest;
  await commitSnapshot({ temporary, final, facts, sums, durable });
  await verifySnapshot(final);
}
