/** Holds what this host has against what its journal and its manifests say, while it works. */
export { type FsckDeps, fsck } from './fsck.ts';
