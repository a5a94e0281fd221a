/** Snapshots from a directory that others made: of the older layout, or with a manifest. */
export { importSnapshot } from './import-snapshot.ts';
