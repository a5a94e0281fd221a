/** From the request for a sandbox to the end of its first command, against a bare restore of the same guest. */
import { type Measure, machine, startTargets } from './bench.ts';
import { inTurn, timed } from './in-turn.ts';

export const create: Measure = async ({ instance, bare, atMost, signal, progress }) => {
  progress('create → first command, against a bare restore to the first answer');
  const { sandboxes } = instance.perch;
  const stages = { create: [] as number[], exec: [] as number[] };
  const withPerch = async () => {
    const began = performance.now();
    const { id } = await sandboxes.create(machine);
    const created = performance.now();
    const { exit_code } = await sandboxes.exec(id, { cmd: 'true' });
    const ended = performance.now();
    await sandboxes.delete(id);
    if (exit_code !== 0) throw new Error(`true ended with ${exit_code}.`);
    stages.create.push(created - began);
    stages.exec.push(ended - created);
    return ended - began;
  };
  const withoutPerch = async () => {
    await using guest = await bare.prepare();
    return await timed(() => guest.start());
  };
  const n = Math.min(30, atMost);
  const { samples, floor } = await inTurn(
    { samples: withPerch, floor: withoutPerch },
    { n, warmUp: 1, signal },
  );
  return [
    {
      name: 'create → first command',
      unit: 'ms',
      samples,
      floor,
      targets: startTargets[bare.monitor],
    },
    { name: 'create → first command: the create', unit: 'ms', samples: stages.create.slice(-n) },
    { name: 'create → first command: the command', unit: 'ms', samples: stages.exec.slice(-n) },
  ];
};
