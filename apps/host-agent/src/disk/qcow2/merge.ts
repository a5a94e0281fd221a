/**
 * Merges layers into one over the same base: an empty overlay is put on top of them, and takes over whatever differs
 * from the base, so that it needs them no more.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { ToolPlace } from '../backend.ts';
import { type DiskState, layersOf } from '../disk.ts';
import { sealMade } from '../sealed.ts';
import { emptyOverlay, maxOverlayBytes } from './header.ts';
import { makeOverlay } from './overlay.ts';
import { asFilename, type BlockNode, baseName, chainOf, linkChain, runQemuImg } from './qemu-img.ts';

const target = 'merged.qcow2';
/**
 * qemu-img finds the base again in the chain, and so passes over what no layer has, only by a name that is absolute;
 * the way to the directory is closed to its user.
 */
const absoluteBase = `/proc/self/cwd/${baseName}`;
/** Nobody waits for it: everything else goes first. */
const unhurried = ['nice', '-n', '19'];

/** Sparse: its cost follows what the layers hold, and zeros stay holes. @returns path of the layer, root's and 0444 */
export async function merge(state: DiskState, tool: ToolPlace): Promise<string> {
  const { dir, uid, sizeBytes } = tool;
  await linkChain(state, dir);
  const path = join(dir, target);
  await makeOverlay(path, emptyOverlay(sizeBytes, baseName), uid);
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const top: BlockNode = {
    driver: 'qcow2',
    file: { driver: 'file', filename: target, locking: 'off', discard: 'unmap' },
    ...{ discard: 'unmap', 'detect-zeroes': 'unmap' },
    backing: chainOf(layersOf(state).length, absoluteBase),
  };
  // Not synced by the tool: that is done once, when the layer is sealed.
  const rebase = ['qemu-img', 'rebase', '-t', 'unsafe', '-b', absoluteBase, '-F', 'raw', asFilename(top)];
  await runQemuImg(tool, maxOverlayBytes(sizeBytes), 'merged', [...unhurried, ...rebase]);
  await sealMade(file, path);
  return path;
}
