/** A command by REST against the same call straight to the guest agent, and what the daemons hold after many. */
import { createGuestClient, type GuestClient } from '../packages/guest-client/src/index.ts';
import type { Perch } from '../packages/sdk/src/index.ts';
import { accessTo } from './access.ts';
import type { Measure } from './bench.ts';
import type { Measured } from './figures.ts';
import { inTurn, timed } from './in-turn.ts';
import { cpuTimeOf, descendantsOf, memoryOf } from './processes.ts';

const turns = { n: 400, warmUp: 100 };
/** Memory is looked at after this many. */
const execs = 1000;

/**
 * Two floors: the agent of the same sandbox, which shows what the control plane adds; and that of a bare guest,
 * which shows what slot and limits add as well.
 */
export const exec: Measure = async ({ instance, sandbox, bare, signal, progress }) => {
  progress('exec of true, by REST against straight to the guest agent');
  await using guest = await bare.prepare();
  await guest.start();
  await guest.identify();
  const { address, accessToken } = guest;
  await using toBare = createGuestClient({ address, accessToken, sandboxId: 'bare' });
  await using toSame = createGuestClient(await accessTo(instance, sandbox));
  const perchd = instance.pid('perchd');
  const before = cpuTimeOf(perchd);
  const ways = {
    rest: () => timed(() => overRest(instance.perch, sandbox)),
    same: () => timed(() => straight(toSame)),
    bare: () => timed(() => straight(toBare)),
  };
  const { rest, same, bare: without } = await inTurn(ways, { ...turns, signal });
  const cpu = (cpuTimeOf(perchd) - before) / (turns.n + turns.warmUp);
  progress('memory after 1,000 commands');
  for (let done = turns.n + turns.warmUp; done < execs; done++) {
    signal.throwIfAborted();
    await overRest(instance.perch, sandbox);
  }
  return [
    { name: 'exec true', unit: 'ms', samples: rest, floor: same, targets: { ratio_p50: 1.3, ratio_p99: 2 } },
    { name: 'exec true, against a bare guest', unit: 'ms', samples: rest, floor: without },
    { name: 'exec true: CPU time of perchd', unit: 'ms', samples: [cpu] },
    ...memory('perchd', perchd, 130),
    ...memory('perch-host', instance.pid('perch-host'), 110),
    { name: 'memory of PostgreSQL (PSS)', unit: 'MB', samples: [megabytes(pssOf(descendantsOf(perchd)))] },
  ];
};

async function overRest(perch: Perch, id: string): Promise<void> {
  const { exit_code } = await perch.sandboxes.exec(id, { cmd: 'true' });
  if (exit_code !== 0) throw new Error(`true ended with ${exit_code}.`);
}

/** As the control plane does it. */
async function straight(client: GuestClient): Promise<void> {
  const options = { cmd: 'true', stdin: false, timeoutMs: 30_000, leash: 'end' } as const;
  const { events } = await client.start(options);
  for await (const event of events) {
    if (event.type === 'end' && event.exitCode !== 0) throw new Error(`true ended with ${event.exitCode}.`);
  }
}

function memory(name: string, pid: number, target: number): Measured[] {
  const { rss, pss } = memoryOf(pid);
  return [
    { name: `memory of ${name} (RSS)`, unit: 'MB', samples: [megabytes(rss)], targets: { p50: target } },
    { name: `memory of ${name} (PSS)`, unit: 'MB', samples: [megabytes(pss)] },
  ];
}

function pssOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + memoryOf(pid).pss, 0);
}

function megabytes(bytes: number): number {
  return bytes / 1e6;
}
