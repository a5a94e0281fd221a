/** Many commands at the same moment, in several sandboxes: until each has ended, and how much longer the last takes. */
import type { Measure } from './bench.ts';
import { quantile } from './figures.ts';
import { timed } from './in-turn.ts';

const [sandboxes, commands, rounds] = [20, 200, 5];
const machine = { memory_mb: 128, disk_mb: 1024, timeout_sec: 3600 };

export const crowd: Measure = async ({ instance, signal, progress }) => {
  progress(`${commands} commands at once in ${sandboxes} sandboxes`);
  const { perch } = instance;
  const ids: string[] = [];
  for (let made = 0; made < sandboxes; made++) {
    signal.throwIfAborted();
    ids.push((await perch.sandboxes.create(machine)).id);
  }
  const run = async (id: string) => {
    const { exit_code } = await perch.sandboxes.exec(id, { cmd: 'true' });
    if (exit_code !== 0) throw new Error(`true ended with ${exit_code}.`);
  };
  const round = () => {
    const all = Array.from({ length: commands }, (_, i) => ids[i % sandboxes] as string);
    return Promise.all(all.map((id) => timed(() => run(id))));
  };
  // Connections are made, and the guests have run each command before.
  await round();
  const measured: number[][] = [];
  for (let turn = 0; turn < rounds; turn++) {
    signal.throwIfAborted();
    measured.push(await round());
  }
  await Promise.all(ids.map((id) => perch.sandboxes.delete(id)));
  const name = `${commands} commands at once in ${sandboxes} sandboxes`;
  return [
    { name, unit: 'ms', samples: measured.flat() },
    {
      ...{ name: `${name}: the slowest, beside the median`, unit: 'ms' },
      samples: measured.map((times) => Math.max(...times)),
      floor: measured.map((times) => quantile(times, 0.5)),
      targets: { ratio_p50: 5 },
    },
  ];
};
