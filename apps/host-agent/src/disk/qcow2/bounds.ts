/** How many layers a disk may have, and how much they may occupy. */
import { lstat } from 'node:fs/promises';
import { type DiskState, layersOf } from '../disk.ts';

/**
 * Layers of one disk. What QEMU needs to open them grows with the square of their number: 8 cost nothing, 64 a fifth
 * of a second, 128 a second.
 */
export const maxLayers = 128;

/** The room that all layers may occupy before they get another, in sizes of the disk: one life adds at most one. */
export const maxSizes = 2;

/** Why a disk may get no layer on top of these, for the end of a sentence; undefined when it may. */
export async function fullBy(layers: readonly string[], sizeBytes: number): Promise<string | undefined> {
  if (layers.length >= maxLayers) return `has ${layers.length} layers`;
  const stats = await Promise.all(layers.map((path) => lstat(path)));
  const bytes = stats.reduce((sum, { blocks }) => sum + blocks * 512, 0);
  if (bytes <= maxSizes * sizeBytes) return undefined;
  return `has layers of ${Math.ceil(bytes / 2 ** 20)} MiB, more than ${maxSizes} times its size`;
}

export async function mergeNeed(
  state: DiskState,
  sizeBytes: number,
  soonBeyond = Number.POSITIVE_INFINITY,
): Promise<'now' | 'soon' | undefined> {
  const layers = layersOf(state);
  if ((await fullBy(layers, sizeBytes)) !== undefined) return 'now';
  return layers.length > soonBeyond ? 'soon' : undefined;
}
