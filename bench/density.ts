/** Many idle sandboxes on one host: what each costs, what the daemons use, and how long these take to adopt them. */

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { monitors } from '../tests/setup/machine.ts';
import { PerchInstance } from '../tests/setup/perch-instance.ts';
import { PowerDisk } from '../tests/setup/power.ts';
import type { HostMeasure } from './bench.ts';
import type { Measured } from './figures.ts';
import { timed } from './in-turn.ts';
import { cpuTimeOf, descendantsOf, memoryOf } from './processes.ts';

const counts = [25, 50, 100, 200];
const atOnce = 4;
const machine = { memory_mb: 128, timeout_sec: 7 * 24 * 3600 };
/** Memory and disk are promised in full. These are what a host may promise, not what it has: idle guests take little. */
const promised = { memoryMb: '262144', diskBytes: 2 ** 41 };
const settleMs = 20_000;
const watchMs = 30_000;

/** @param atMost most sandboxes */
export const density: HostMeasure = async ({ atMost, signal, progress }) => {
  await using disk = await PowerDisk.make({ bytes: promised.diskBytes });
  const env = { PERCH_MEMORY_MB: promised.memoryMb, PERCH_SLOT_REST_SEC: '30' };
  await using instance = await PerchInstance.start({ network: 216, env, dataDir: `${disk.path}/perch` });
  const measured: Measured[] = [];
  let made = 0;
  for (const count of counts.filter((one) => one <= atMost)) {
    if (!fits(count - made)) {
      progress(`not ${count}: this machine has too little memory`);
      break;
    }
    progress(`${count} idle sandboxes of ${machine.memory_mb} MiB`);
    made += await create(instance, count - made, signal);
    await sleep(settleMs, undefined, { signal });
    measured.push(...(await lookAt(instance, count)), await adoption(instance, count));
  }
  return measured;
};

/** Twice what an idle one is to take. */
function fits(more: number): boolean {
  const kib = Number(/^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'latin1'))?.[1]);
  return more * 60 * 1000 < kib;
}

/** Each has run a command, as one that is idle between two has. */
async function create({ perch }: PerchInstance, count: number, signal: AbortSignal): Promise<number> {
  let left = count;
  const worker = async () => {
    while (left-- > 0) {
      signal.throwIfAborted();
      const { id } = await perch.sandboxes.create(machine);
      await perch.sandboxes.exec(id, { cmd: 'true' });
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return count;
}

async function lookAt(instance: PerchInstance, count: number): Promise<Measured[]> {
  const pids = [...monitors(instance.dataDir).values()];
  if (pids.length !== count)
    throw new Error(`${pids.length} monitors run, and there are ${count} sandboxes.`);
  const [agent, control] = [instance.pid('perch-host'), instance.pid('perchd')];
  const daemons = () => [agent, control, ...descendantsOf(control)];
  const cpu = () => sum(daemons().map(cpuTimeOf));
  const before = cpu();
  const idle = sum(pids.map(cpuTimeOf));
  const ms = await timed(() => sleep(watchMs));
  const percent = (used: number) => (100 * used) / ms;
  return [
    {
      ...{ name: `${count} idle sandboxes: memory of each (PSS)`, unit: 'MB' },
      ...{ samples: pids.map((pid) => memoryOf(pid).pss / 1e6), targets: { p50: 30 } },
    },
    {
      ...{ name: `${count} idle sandboxes: CPU of the daemons, of one processor`, unit: '%' },
      ...{ samples: [percent(cpu() - before)], targets: { p50: 2 } },
    },
    {
      ...{ name: `${count} idle sandboxes: CPU of each, of one processor`, unit: '%' },
      samples: [percent(sum(pids.map(cpuTimeOf)) - idle) / count],
    },
  ];
}

/** The daemons end and start again; the machines run on. */
async function adoption(instance: PerchInstance, count: number): Promise<Measured> {
  await instance.stop();
  const ms = await timed(() => instance.up());
  const { total } = await countRunning(instance);
  if (total !== count) throw new Error(`${total} of ${count} sandboxes run after a start.`);
  return { name: `start that adopts ${count} sandboxes`, unit: 'ms', samples: [ms], targets: { p50: 5000 } };
}

async function countRunning({ perch }: PerchInstance): Promise<{ total: number }> {
  let total = 0;
  for await (const _ of perch.sandboxes.all({ status: 'running' })) total++;
  return { total };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
