/** Pause of a sandbox whose program has just written 32 MiB, and the way from a resume to the first command. */
import { createGuestClient } from '../packages/guest-client/src/index.ts';
import type { Perch } from '../packages/sdk/src/index.ts';
import type { BareGuest } from './bare-guest.ts';
import { type Measure, machine, startTargets } from './bench.ts';
import { inTurn, timed } from './in-turn.ts';

const dirty = 'head -c 33554432 /dev/urandom > /dev/shm/written';
/** Stages in which the guest stands still and nothing is decided yet. */
const frozenStages = ['freeze', 'device_state', 'memory', 'disk'];

export function frozenMs(timings: Readonly<Record<string, number>>): number {
  return frozenStages.reduce((sum, stage) => sum + (timings[stage] ?? 0), 0);
}

export const pause: Measure = async ({ instance, bare, atMost, signal, progress }) => {
  progress('pause with 32 MiB written, and resume → first command against a bare restore');
  const { perch } = instance;
  const { sandboxes } = perch;
  const stages = {
    pause: [] as number[],
    frozen: [] as number[],
    resume: [] as number[],
    again: [] as number[],
  };
  const withPerch = async () => {
    const { id } = await sandboxes.create(machine);
    await run(perch, id, dirty);
    const paused = await timed(async () => {
      const { timings_ms } = await sandboxes.pause(id);
      stages.frozen.push(frozenMs(timings_ms));
    });
    stages.pause.push(paused);
    const began = performance.now();
    const resumed = await timed(() => sandboxes.resume(id));
    stages.resume.push(resumed);
    await run(perch, id, 'true');
    const ran = performance.now() - began;
    await run(perch, id, dirty);
    stages.again.push(await timed(() => sandboxes.pause(id)));
    await sandboxes.delete(id);
    return ran;
  };
  const bareSaves: number[] = [];
  const withoutPerch = async () => {
    await using guest = await bare.prepare();
    const ms = await timed(() => guest.start());
    if (bare.monitor === 'firecracker') bareSaves.push(await saveDirty(guest));
    return ms;
  };
  const n = Math.min(20, atMost);
  const { samples, floor } = await inTurn(
    { samples: withPerch, floor: withoutPerch },
    { n, warmUp: 2, signal },
  );
  return [
    { name: 'pause, 32 MiB written', unit: 'ms', samples: stages.pause.slice(-n), targets: { p50: 150 } },
    {
      name: 'pause: frozen until all is copied',
      unit: 'ms',
      samples: stages.frozen.slice(-n),
      ...(bare.monitor === 'firecracker'
        ? { floor: bareSaves.slice(-n), targets: { ratio_p50: 1.2 } }
        : { targets: { p50: 60 } }),
    },
    { name: 'pause, 32 MiB written since the resume', unit: 'ms', samples: stages.again.slice(-n) },
    {
      name: 'resume → first command',
      unit: 'ms',
      samples,
      floor,
      targets: startTargets[bare.monitor],
    },
    { name: 'resume → first command: the resume', unit: 'ms', samples: stages.resume.slice(-n) },
  ];
};

/** From the stop of a guest whose program has written as much to the end of the state that its monitor writes. */
async function saveDirty(guest: BareGuest): Promise<number> {
  await guest.identify();
  const { address, accessToken } = guest;
  await using client = createGuestClient({ address, accessToken, sandboxId: 'bare' });
  const { events } = await client.start({ cmd: 'sh', args: ['-c', dirty], stdin: false, leash: 'end' });
  for await (const event of events) {
    if (event.type === 'end' && event.exitCode !== 0)
      throw new Error(`${dirty} ended with ${event.exitCode}.`);
  }
  return await timed(() => guest.save());
}

async function run(perch: Perch, id: string, line: string): Promise<void> {
  const { exit_code } = await perch.sandboxes.exec(id, { cmd: 'sh', args: ['-c', line] });
  if (exit_code !== 0) throw new Error(`${line} ended with ${exit_code}.`);
}
