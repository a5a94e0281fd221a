/**
 * Many sandboxes asked for at the same moment: until each, and the last, has run its first command. Then the same again,
 * of a Perch that keeps guests ready: the burst before has told it how many are wanted.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Perch } from '../packages/sdk/src/index.ts';
import { PerchInstance } from '../tests/setup/perch-instance.ts';
import { type Measure, machine } from './bench.ts';

const count = 20;
/** Disk is promised in full: twenty of the default size are more than a small machine has. */
const disk_mb = 1024;
const rounds = 3;
/** A busy machine makes some twenty guests in this time. */
const standWithinMs = 300_000;

/** How long each took, milliseconds. */
async function burstOf({ sandboxes }: Perch): Promise<number[]> {
  const began = performance.now();
  const one = async () => {
    const { id } = await sandboxes.create({ ...machine, disk_mb });
    const { exit_code } = await sandboxes.exec(id, { cmd: 'true' });
    if (exit_code !== 0) throw new Error(`true ended with ${exit_code}.`);
    return { id, ms: performance.now() - began };
  };
  const made = await Promise.all(Array.from({ length: count }, one));
  await Promise.all(made.map(({ id }) => sandboxes.delete(id)));
  return made.map(({ ms }) => ms);
}

export const burst: Measure = async ({ instance, signal, progress }) => {
  progress(`${count} creates at once → first command of each`);
  const first: number[][] = [];
  for (let round = -1; round < rounds; round++) {
    signal.throwIfAborted();
    const all = await burstOf(instance.perch);
    if (round >= 0) first.push(all);
  }
  progress(`${count} creates at once, when as many came before`);
  const again: number[][] = [];
  // However busy the machine is with other things, it makes all guests that are wanted.
  const env = { PERCH_READY: '2', PERCH_READY_PRESSURE: '100' };
  await using follows = await PerchInstance.start({ network: 213, env });
  await burstOf(follows.perch);
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted();
    await untilReady(follows.perch);
    again.push(await burstOf(follows.perch));
  }
  const last = (all: readonly number[][]) => all.map((times) => Math.max(...times));
  const name = `${count} creates at once`;
  return [
    { name: `${name} → first command`, unit: 'ms', samples: first.flat() },
    { name: `${name}: the last`, unit: 'ms', samples: last(first) },
    { name: `${name}, again → first command`, unit: 'ms', samples: again.flat(), floor: first.flat() },
    {
      ...{ name: `${name}, again: the last`, unit: 'ms', samples: last(again), floor: last(first) },
      targets: { ratio_p50: 0.25 },
    },
  ];
};

/** Waits until a guest stands ready for each create of the next burst. */
async function untilReady({ templates }: Perch): Promise<void> {
  const deadline = Date.now() + standWithinMs;
  for (;;) {
    const all = await templates.ready();
    const ready = all.find((one) => one.disk_mb === disk_mb)?.ready ?? 0;
    if (ready >= count) return;
    if (Date.now() > deadline) throw new Error(`Only ${ready} guests stand ready after ${standWithinMs} ms.`);
    await sleep(300);
  }
}
