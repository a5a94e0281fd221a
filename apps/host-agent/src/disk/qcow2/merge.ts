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
import { clusterSize, emptyOverlay, maxOverlayBytes } from './header.ts';
import { makeHole, measure } from './measure.ts';
import { makeOverlay } from './overlay.ts';
import {
  asFilename,
  type BlockNode,
  baseName,
  chainOf,
  imageNode,
  linkChain,
  runQemuImg,
  unhurried,
} from './qemu-img.ts';

const target = 'merged.qcow2';
const holeName = 'hole';
/**
 * qemu-img finds the base again in the chain, and so passes over what no layer has, only by a name that is absolute;
 * the way to the directory is closed to its user.
 */
const absoluteBase = `/proc/self/cwd/${baseName}`;
/** A table that moves has both its places for a moment. */
const slackBytes = 16 * clusterSize;

/** Sparse: its cost follows what the layers hold, and zeros stay holes. @returns path of the layer, root's and 0444 */
export async function merge(state: DiskState, tool: ToolPlace): Promise<string> {
  const { dir, uid, sizeBytes } = tool;
  const count = layersOf(state).length;
  await linkChain(state, dir);
  await makeHole(tool, holeName);
  const most = (await measure(tool, chainOf(count, imageNode(holeName)))) + slackBytes;
  const maxFileBytes = Math.min(most, maxOverlayBytes(sizeBytes));
  await tool.admit(maxFileBytes);
  const path = join(dir, target);
  await makeOverlay(path, emptyOverlay(sizeBytes, baseName), uid);
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const top: BlockNode = {
    driver: 'qcow2',
    file: { driver: 'file', filename: target, locking: 'off', discard: 'unmap' },
    ...{ discard: 'unmap', 'detect-zeroes': 'unmap' },
    backing: chainOf(count, imageNode(absoluteBase)),
  };
  // Not synced by the tool: that is done once, when the layer is sealed.
  const rebase = ['qemu-img', 'rebase', '-t', 'unsafe', '-b', absoluteBase, '-F', 'raw', asFilename(top)];
  await runQemuImg(tool, maxFileBytes, 'merged', [...unhurried, ...rebase]);
  await sealMade(file, path);
  return path;
}
