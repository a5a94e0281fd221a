/** A user for a tool that reads what guests wrote, and a directory of its own. */
import { chownSync, mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { newSandboxId, remakeToolMs } from '@perch/protocol';
import { type ToolPlace, UserStillRuns } from '../../disk/index.ts';
import { processesOfUid } from '../../linux/index.ts';
import type { NetworkLayer } from '../../network/index.ts';
import type { DiskRoom } from '../journal/index.ts';

export interface LayersUserDeps {
  network: NetworkLayer;
  /** The next start removes all that a crash leaves there, with the processes of its user. */
  vmsDir: string;
  room: Pick<DiskRoom, 'require'>;
}

/** The works, each as a message about its room begins. */
const works = { convert: 'The converted disk', flatten: 'The flattened disk', merge: 'The merged disk' };

const releaseAgainMs = 1000;

/**
 * @param what names the directory
 * @param use links what the tool made before it resolves: the directory goes then, and the user is free for a
 *   sandbox. When a tool could not be ended, both stay until it has.
 */
export async function withLayersUser(
  what: keyof typeof works,
  diskMb: number,
  { network, vmsDir, room }: LayersUserDeps,
  use: (tool: ToolPlace) => Promise<void>,
  lookAgainMs = 10_000,
): Promise<void> {
  // A slot is a user that nobody else is; its network is not used.
  const slot = await network.acquire();
  const dir = join(vmsDir, `.${what}-${newSandboxId()}`);
  const giveBack = () =>
    rm(dir, { recursive: true, force: true }).finally(() => release(network, slot.number));
  let stillRuns = false;
  try {
    // Who holds the slot can be seen from the moment on that it is held.
    mkdirSync(dir, { mode: 0o700 });
    chownSync(dir, slot.uid, slot.uid);
    await use({
      ...{ dir, uid: slot.uid, sizeBytes: diskMb * 2 ** 20, timeoutMs: remakeToolMs(diskMb) },
      admit: (bytes) => room.require(bytes, works[what]),
    });
  } catch (error) {
    stillRuns = error instanceof UserStillRuns;
    throw error;
  } finally {
    if (!stillRuns) await giveBack();
    else {
      // The next start finds all that cannot be given back then either.
      void endOfUser(slot.uid, lookAgainMs)
        .then(giveBack)
        .catch(() => {});
    }
  }
}

/** A slot that cannot be removed is tried again, which what the tool made does not wait for. */
async function release(network: NetworkLayer, number: number): Promise<void> {
  const failed = await network.release(number).then(
    () => false,
    () => true,
  );
  if (failed) void sleep(releaseAgainMs, undefined, { ref: false }).then(() => release(network, number));
}

/** For as long as it takes: a device may come back, or the process ends with the machine. */
async function endOfUser(uid: number, lookAgainMs: number): Promise<void> {
  while (processesOfUid(uid).length > 0) await sleep(lookAgainMs, undefined, { ref: false });
}
