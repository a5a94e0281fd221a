/**
 * Copy-on-write files of device-mapper's snapshot target, read and made without the kernel. A store is read to its
 * `runs`, and made of them: a run says which part of a disk is where in a file, so a layer of another kind becomes a
 * store by way of the runs that differ and a raw image that has them.
 */
export { flattenStore } from './flatten.ts';
export { areasNear, fullStoreBytes, ownChunkBytes, sectorBytes } from './format.ts';
export { readStore } from './read.ts';
export type { ExceptionStore } from './store.ts';
export { writeStore } from './write.ts';
