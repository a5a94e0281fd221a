/** From the request for a sandbox to the end of its first command, when a guest stands ready for it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { cpuTicksOf, monitors } from '../tests/setup/machine.ts';
import { PerchInstance } from '../tests/setup/perch-instance.ts';
import type { Measure } from './bench.ts';
import { timed } from './in-turn.ts';

const n = 20;
const waitMs = 60_000;

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
    const left = new Set(monitors(instance.dataDir).values());
    if (standing.every((pid) => left.has(pid)))
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

/** Waits until so many machines are there that use no CPU. @returns their pids */
export async function untilStanding(dataDir: string, count: number): Promise<number[]> {
  const deadline = Date.now() + waitMs;
  for (;;) {
    const pids = [...monitors(dataDir).values()];
    const before = pids.map(cpuTicksOf);
    await sleep(300);
    const after = [...monitors(dataDir).values()].map(cpuTicksOf);
    if (pids.length === count && after.join() === before.join()) return pids;
    if (Date.now() > deadline) throw new Error(`No ${count} guests stand ready after ${waitMs} ms.`);
  }
}
