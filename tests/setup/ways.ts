/** Calls that get to failpoints of either daemon, each on a sandbox of its own. */
import type { Way } from './armed.ts';
import { monitorOf } from './machine.ts';
import { type Scene, small } from './scene.ts';

export interface OnSandbox extends Pick<Way<never>, 'call'> {
  id: string;
}

/** The product of a call that makes no sandbox. */
export const madeNone = (): string[] => [];

export async function destroyOf({ instance: { perch } }: Scene): Promise<OnSandbox> {
  const { id } = await perch.sandboxes.create(small);
  return { id, call: () => perch.sandboxes.delete(id).then(madeNone) };
}

/** The end of its monitor, which nobody asked for. */
export async function deathOf({ instance: { perch, dataDir } }: Scene): Promise<OnSandbox> {
  const { id } = await perch.sandboxes.create(small);
  const monitor = monitorOf(dataDir, id);
  const call = async () => {
    process.kill(monitor, 'SIGKILL');
    return madeNone();
  };
  return { id, call };
}
