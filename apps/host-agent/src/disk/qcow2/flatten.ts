/** Merges a base and its layers into one raw image. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { ToolPlace } from '../backend.ts';
import { type DiskState, layersOf } from '../disk.ts';
import { sealMade } from '../sealed.ts';
import { measure } from './measure.ts';
import { chainOf, convertToRaw, linkChain, runQemuImg } from './qemu-img.ts';

const target = 'flat.ext4';

/** Sparse: its cost follows what is allocated. @returns path of the image, root's and 0444 */
export async function flatten(state: DiskState, tool: ToolPlace): Promise<string> {
  const { dir, uid, sizeBytes } = tool;
  await linkChain(state, dir);
  const chain = chainOf(layersOf(state).length);
  await tool.admit(await measure(tool, chain));
  const path = join(dir, target);
  await using file = await open(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR, 0o600);
  await file.truncate(sizeBytes);
  await file.chown(uid, uid);
  await runQemuImg(tool, sizeBytes, 'flattened', convertToRaw(chain, target));
  const stat = await file.stat();
  if (stat.size !== sizeBytes) throw new Error(`The flattened disk has ${stat.size} bytes, not ${sizeBytes}`);
  await sealMade(file, path);
  return path;
}
