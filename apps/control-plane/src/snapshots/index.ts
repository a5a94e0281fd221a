export { newSnapshotName, type SnapshotFilter, Snapshots } from './snapshots.ts';
