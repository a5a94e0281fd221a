/** Who may read a file of a snapshot within its directory, which is root's. */
import { snapshotFiles } from '../../../snapshot/index.ts';

const rootOnly: readonly string[] = [
  snapshotFiles.identity,
  snapshotFiles.memfileHeader,
  snapshotFiles.rootfsMeta,
];

/** VMs get hard links of what they go on from, and of nothing else. */
export function modeOf(name: string): number {
  return rootOnly.includes(name) ? 0o600 : 0o444;
}
