/** A user for a tool that reads what guests wrote, and a directory of its own. */
import { chown, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { newSandboxId } from '@perch/protocol';
import type { LayersSpec } from '../disk/index.ts';
import type { NetworkLayer } from '../network/index.ts';

export interface LayersUserDeps {
  network: NetworkLayer;
  /** What a crash leaves there is removed at the next start, with the processes of its user. */
  vmsDir: string;
}

/** As a disk does that writes 10 MB/s. */
const timeoutMs = (diskMb: number) => 60_000 + 100 * diskMb;

/** @param what names the directory. @param use links what the tool made before it resolves: the directory goes then */
export async function withLayersUser(
  what: 'flatten' | 'merge',
  diskMb: number,
  { network, vmsDir }: LayersUserDeps,
  use: (spec: Pick<LayersSpec, 'dir' | 'uid' | 'sizeBytes' | 'timeoutMs'>) => Promise<void>,
): Promise<void> {
  // A slot is a user that nobody else is; its network is not used.
  const slot = await network.acquire();
  const dir = join(vmsDir, `.${what}-${newSandboxId()}`);
  try {
    await mkdir(dir, { mode: 0o700 });
    await chown(dir, slot.uid, slot.uid);
    await use({ dir, uid: slot.uid, sizeBytes: diskMb * 2 ** 20, timeoutMs: timeoutMs(diskMb) });
  } finally {
    await rm(dir, { recursive: true, force: true }).finally(() => network.release(slot.number));
  }
}
