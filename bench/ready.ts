/** From the request for a sandbox to the end of its first command, when a guest stands ready for it. */
import { monitors } from '../tests/setup/machine.ts';
import { PerchInstance } from '../tests/setup/perch-instance.ts';
import { untilStanding } from '../tests/setup/ready.ts';
import type { Measure } from './bench.ts';
import { timed } from './in-turn.ts';

const n = 20;

export const ready: Measure = async ({ signal, progress }) => {
  progress('create → first command, taken over from the guests that stand ready');
  await using instance = await PerchInstance.start({ network: 215, env: { PERCH_READY: '2' } });
  const { sandboxes } = instance.perch;
  const samples: number[] = [];
  const creates: number[] = [];
  for (let turn = -1; turn < n; turn++) {
    signal.throwIfAborted();
    const standing = await untilStanding(instance.dataDir, 2);
    const began = performance.now();
    // Guests of the default shape stand ready, and no others.
    const { id } = await sandboxes.create({ timeout_sec: 3600 });
    const created = performance.now() - began;
    const ran = await timed(() => sandboxes.exec(id, { cmd: 'true' }));
    if (turn >= 0) {
      creates.push(created);
      samples.push(created + ran);
    }
    await sandboxes.delete(id);
    const left = monitors(instance.dataDir);
    if (standing.every((name) => left.has(name)))
      throw new Error('None of the guests that stood ready was taken.');
  }
  return [
    {
      name: 'create → first command, from a ready guest',
      unit: 'ms',
      samples,
      targets: { p50: 60, p95: 100 },
    },
    { name: 'create → first command, from a ready guest: the create', unit: 'ms', samples: creates },
  ];
};
