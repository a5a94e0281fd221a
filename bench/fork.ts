/** Ten children of one running sandbox, what an idle one costs in memory, and what grows with memory and disk of a guest. */
import { totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { monitorOf } from '../tests/setup/machine.ts';
import type { BareGuest } from './bare-guest.ts';
import { type Bench, type Measure, machine } from './bench.ts';
import { inTurn, timed } from './in-turn.ts';
import { memoryOf } from './processes.ts';

const count = 10;
const mostRounds = 6;
const sizesMb = [256, 1024, 4096];
const writtenMiB = { much: 200, little: 2 };

export const fork: Measure = async (bench) => {
  const { instance, bare, atMost, signal, progress } = bench;
  // Children are left alone in one, and answer in the next.
  const rounds = Math.min(mostRounds, 2 * atMost);
  progress(`fork into ${count}: standstill of the source, first command of all, memory of an idle child`);
  const { sandboxes } = instance.perch;
  const { id } = await sandboxes.create(machine);
  await sandboxes.exec(id, { cmd: 'true' });
  const frozen: number[] = [];
  const first: number[] = [];
  const own: number[] = [];
  const used: number[] = [];
  const all: number[] = [];
  const floor: number[] = [];
  // A child's own memory, and its part of that which it shares with QEMUs but not of the memory image.
  const memory = async (children: readonly string[]) => {
    await sleep(2000);
    return children.map((child) => memoryOf(monitorOf(instance.dataDir, child)).ownPss / 1e6);
  };
  for (let round = -1; round < rounds; round++) {
    signal.throwIfAborted();
    const began = performance.now();
    const { results, timings_ms } = await sandboxes.fork(id, { count });
    const children = results.map((result) => {
      if ('error' in result) throw new Error(result.error.message);
      return result.sandbox.id;
    });
    // In every other round the children are left alone, and looked at as they are.
    if (round % 2 === 0) own.push(...(await memory(children)));
    else {
      const answered = await Promise.all(
        children.map(async (child) => {
          await sandboxes.exec(child, { cmd: 'true' });
          return performance.now() - began;
        }),
      );
      if (round > 0) {
        first.push(...answered);
        all.push(Math.max(...answered));
        used.push(...(await memory(children)));
      }
    }
    if (round >= 0) frozen.push(timings_ms.frozen ?? Number.NaN);
    await Promise.all(children.map((child) => sandboxes.delete(child)));
    if (round > 0 && round % 2 === 1) floor.push(await together(bare));
  }
  await sandboxes.delete(id);
  const bySize = [];
  for (const memory_mb of sizesMb.filter((size) => size * 2 ** 20 < totalmem() / 2)) {
    progress(`standstill of a copy, ${memory_mb} MiB of memory with 32 MiB written`);
    bySize.push(await standstill(instance.perch, memory_mb, Math.min(mostRounds, atMost)));
  }
  return [
    { name: `fork into ${count}: source frozen`, unit: 'ms', samples: frozen, targets: { p50: 60 } },
    { name: `fork into ${count}: to the first command`, unit: 'ms', samples: first, targets: { p95: 1500 } },
    {
      name: `fork into ${count}: to the first command of the last`,
      ...{ unit: 'ms', samples: all, floor, targets: { ratio_p50: 1.5 } },
    },
    {
      name: 'memory of an idle child: Pss of smaps_rollup less Pss_File',
      unit: 'MB',
      samples: own,
      targets: { p50: 31.5 },
    },
    { name: 'memory of a child after its first command', unit: 'MB', samples: used },
    ...bySize,
    ...(await byDisk(bench)),
  ];
};

/** As many bare guests at once as there are children, until the last has answered. */
async function together(bare: Bench['bare']): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const guests: BareGuest[] = [];
  for (let i = 0; i < count; i++) guests.push(stack.use(await bare.prepare(i)));
  return await timed(() => Promise.all(guests.map((guest) => guest.start())));
}

async function standstill({ sandboxes }: Bench['instance']['perch'], memory_mb: number, rounds: number) {
  const { id } = await sandboxes.create({ ...machine, memory_mb });
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const args = ['-c', 'head -c 33554432 /dev/urandom > /dev/shm/written'];
    await sandboxes.exec(id, { cmd: 'sh', args });
    const { results, timings_ms } = await sandboxes.fork(id);
    samples.push(timings_ms.frozen ?? Number.NaN);
    for (const result of results) if ('sandbox' in result) await sandboxes.delete(result.sandbox.id);
  }
  await sandboxes.delete(id);
  return { name: `copy of ${memory_mb} MiB, 32 MiB written: frozen`, unit: 'ms' as const, samples };
}

/** Of two copies whose sources have written much, and little, to their disks, past the memory of the guest. */
async function byDisk({ instance, atMost, signal, progress }: Bench) {
  const { much, little } = writtenMiB;
  progress(`standstill of a copy with ${much} MiB written to the disk, against ${little}`);
  const { sandboxes } = instance.perch;
  const source = async (mebibytes: number) => {
    const { id } = await sandboxes.create(machine);
    const write = async (count: number, at: number) => {
      const once = `dd if=/dev/shm/one of=$HOME/written bs=1M oflag=direct conv=notrunc status=none`;
      const script = `for i in $(seq ${at} ${at + count - 1}); do ${once} seek=$i || exit; done; sync`;
      const { exit_code, stderr } = await sandboxes.exec(id, { cmd: 'sh', args: ['-c', script] });
      if (exit_code !== 0) throw new Error(`dd ended with ${exit_code}: ${stderr}`);
    };
    await sandboxes.exec(id, { cmd: 'sh', args: ['-c', 'head -c 1M /dev/urandom > /dev/shm/one'] });
    await write(mebibytes, 0);
    const sample = async () => {
      // Between copies it writes.
      await write(1, 0);
      const { results, timings_ms } = await sandboxes.fork(id);
      for (const result of results) if ('sandbox' in result) await sandboxes.delete(result.sandbox.id);
      // The disk has its turn last, and the guest goes on with it.
      switches.push(timings_ms.switch ?? Number.NaN);
      return timings_ms.frozen ?? Number.NaN;
    };
    const switches: number[] = [];
    return { id, sample, switches };
  };
  const [large, small] = [await source(much), await source(little)];
  const ways = { samples: large.sample, floor: small.sample };
  const n = Math.min(10, atMost);
  const frozen = await inTurn(ways, { n, warmUp: 1, signal });
  for (const { id } of [large, small]) await sandboxes.delete(id);
  const [samples, floor] = [large, small].map(({ switches }) => switches.slice(-n)) as [number[], number[]];
  const name = `copy with ${much} MiB written to the disk, by ${little}: frozen`;
  return [
    { name, unit: 'ms' as const, ...frozen, targets: { ratio_p50: 1.2 } },
    { name: `${name} for the disk`, unit: 'ms' as const, samples, floor },
  ];
}
