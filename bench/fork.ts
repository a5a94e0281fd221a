/** Ten children of one running sandbox, what an idle one costs in memory, and what grows with the size of a guest. */
import { setTimeout as sleep } from 'node:timers/promises';
import { monitorOf } from '../tests/setup/machine.ts';
import { type Measure, machine } from './bench.ts';
import { memoryOf } from './processes.ts';

const count = 10;
const rounds = 6;
const sizesMb = [256, 1024, 4096];

export const fork: Measure = async ({ instance, signal, progress }) => {
  progress(`fork into ${count}: standstill of the source, first command of all, memory of an idle child`);
  const { sandboxes } = instance.perch;
  const { id } = await sandboxes.create(machine);
  await sandboxes.exec(id, { cmd: 'true' });
  const frozen: number[] = [];
  const first: number[] = [];
  const own: number[] = [];
  const used: number[] = [];
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
        used.push(...(await memory(children)));
      }
    }
    if (round >= 0) frozen.push(timings_ms.frozen ?? Number.NaN);
    await Promise.all(children.map((child) => sandboxes.delete(child)));
  }
  await sandboxes.delete(id);
  const bySize = [];
  for (const memory_mb of sizesMb) {
    progress(`standstill of a copy, ${memory_mb} MiB of memory with 32 MiB written`);
    bySize.push(await standstill(instance.perch, memory_mb));
  }
  return [
    { name: `fork into ${count}: source frozen`, unit: 'ms', samples: frozen, targets: { p50: 60 } },
    { name: `fork into ${count}: to the first command`, unit: 'ms', samples: first, targets: { p95: 1500 } },
    {
      name: 'memory of an idle child: Pss of smaps_rollup less Pss_File',
      unit: 'MB',
      samples: own,
      targets: { p50: 31.5 },
    },
    { name: 'memory of a child after its first command', unit: 'MB', samples: used },
    ...bySize,
  ];
};

async function standstill({ sandboxes }: Parameters<Measure>[0]['instance']['perch'], memory_mb: number) {
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
