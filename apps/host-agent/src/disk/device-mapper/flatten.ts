/** Merges a base and its store into one raw image. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { ToolPlace } from '../backend.ts';
import type { DiskState } from '../disk.ts';
import { sealMade } from '../sealed.ts';
import { flattenStore, readStore } from './exception-store/index.ts';
import { storeOf } from './store.ts';

/**
 * No tool of another user is needed: the notes of the store are the kernel's, and are read within bounds; what the
 * guest wrote is moved and not looked at. Sparse: its cost follows what is allocated.
 * @returns path of the image, root's and 0444
 */
export async function flatten(state: DiskState, tool: ToolPlace): Promise<string> {
  if (state.format !== 'dm-snapshot') throw new Error(`There is no store in a state of ${state.format}`);
  const { dir, sizeBytes, timeoutMs } = tool;
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = tool.signal ? AbortSignal.any([tool.signal, timeout]) : timeout;
  const reading = constants.O_RDONLY | constants.O_NOFOLLOW;
  await using base = await open(state.base, reading);
  await using layer = await open(storeOf(state) ?? '', reading);
  const stats = await Promise.all([base, layer].map((file) => file.stat()));
  await tool.admit(stats.reduce((sum, { blocks }) => sum + blocks * 512, 0));
  const path = join(dir, 'flat.ext4');
  await using file = await open(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR, 0o600);
  await flattenStore(base, await readStore(layer, sizeBytes), file, signal);
  await sealMade(file, path);
  return path;
}
