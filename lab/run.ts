/** One run of a command in a lab of its own. */
import { join } from 'node:path';
import { cacheDir } from '../images/index.ts';
import { PerchError } from '../packages/protocol/src/index.ts';
import { bringCheckout, labRoot } from './checkout.ts';
import { type Place, pass } from './command.ts';
import type { LabRun } from './options.ts';
import { type LabParts, labParts, root } from './parts.ts';
import { checkoutOf, ensureState, openLab } from './state.ts';

/** @returns the command's exit code @throws LabDied, BuildError, PerchError for a command that cannot be started */
export async function runOnce({ command, data, repeat, fresh, terminal }: LabRun): Promise<number> {
  const cache = cacheDir();
  const parts = await labParts(cache);
  const state = await ensureState(cache, parts, { fresh, log: (line) => console.error(line) });
  const there = await checkoutOf(state);
  await using lab = await openLab(state, parts);
  const { stdout, stderr } = process;
  const stdin = repeat > 0 ? undefined : process.stdin;
  const work = async () => {
    await bringCheckout(lab.agent, root, there);
    // The terminal of the lab reads keys as such, and shows them.
    if (terminal) process.stdin.setRawMode(true);
    return await pass(lab.agent, command, placeFor(data, parts), { stdin, stdout, stderr });
  };
  try {
    return await Promise.race([lab.died, work()]);
  } catch (error) {
    const broken = error instanceof PerchError && /^(guest_|transfer_interrupted)/.test(error.code);
    throw broken ? await lab.brokeOff(error) : error;
  } finally {
    if (terminal) process.stdin.setRawMode(false);
  }
}

function placeFor(data: LabRun['data'], { agent, pager }: LabParts): Place {
  const cache = `/data/${data}/cache`;
  return {
    cwd: labRoot,
    env: {
      HOME: '/root',
      // For what would be a liberty on a machine of somebody's.
      PERCH_LAB: '1',
      TERM: process.env.TERM ?? 'dumb',
      PATH: `${labRoot}/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      // Nothing makes nodes for dmsetup but dmsetup itself.
      DM_DISABLE_UDEV: '1',
      PERCH_FIRECRACKER: '/artifacts/firecracker',
      PERCH_JAILER: '/artifacts/jailer',
      PERCH_CACHE: cache,
      PERCH_GUEST_BIN: join(cache, agent),
      PERCH_PAGER: join(cache, pager),
      TMPDIR: `/data/${data}/tmp`,
    },
  };
}
