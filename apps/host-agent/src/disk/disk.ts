/** A disk between two lives, and as the monitor of one life sees it. */
import type { LayerFormat } from '@perch/protocol';

/**
 * A disk between two lives: files that are root's, 0444 and never written again.
 * - `image`: one raw file that needs nothing below it.
 * - else: a raw image, and the copy-on-write files over it from the lowest up, at least one.
 */
export type DiskState =
  | { format: 'image'; image: string }
  | { format: LayerFormat; base: string; layers: readonly string[] };

/** The image below everything that guests have written. */
export function imageOf(state: DiskState): string {
  return state.format === 'image' ? state.image : state.base;
}

/** Copy-on-write files over the image, the lowest first. */
export function layersOf(state: DiskState): readonly string[] {
  return state.format === 'image' ? [] : state.layers;
}

/** Whether another kind of disk wrote the layers: a guest goes on from them once they are converted. */
export function isOfOtherKind(
  { format }: DiskState,
  { capabilities }: { capabilities: { format: LayerFormat } },
): boolean {
  return format !== 'image' && format !== capabilities.format;
}

export interface DiskFile {
  /** Absolute, in the VM's directory. */
  path: string;
  format: 'qcow2' | 'raw';
}

/** A disk that is files of the VM's directory. */
export interface FileDisk extends DiskFile {
  kind: 'file';
  /** Files below the one at `path`, the lowest first. The monitor is told of each, and believes no header. */
  below: readonly DiskFile[];
  /** The largest that the file at `path` can become, bytes: the monitor's limit of file size. */
  maxFileBytes: number;
}

/** A disk that is a block device. A limit of file size does not bound what is written to it. */
export interface BlockDisk {
  kind: 'block';
  /** A node in the VM's directory, absolute; the VM's user may read and write it. */
  path: string;
}

/** The guest's disk, as a monitor opens it. */
export type VmDisk = FileDisk | BlockDisk;
