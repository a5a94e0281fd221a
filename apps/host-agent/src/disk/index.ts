/** Disks of guests: a copy-on-write layer over a base image that many share. */
export { type Disk, type DiskLayer, type LayerFile, type LayersSpec, UserStillRuns } from './disk-layer.ts';
export { createQcow2Layer } from './qcow2/layer.ts';
