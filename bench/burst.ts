/** Many sandboxes asked for at the same moment: until each, and the last, has run its first command. */
import { type Measure, machine } from './bench.ts';

const count = 20;
/** Disk is promised in full: twenty of the default size are more than a small machine has. */
const small = { ...machine, disk_mb: 1024 };
const rounds = 3;

export const burst: Measure = async ({ instance, signal, progress }) => {
  progress(`${count} creates at once → first command of each`);
  const { sandboxes } = instance.perch;
  const each: number[] = [];
  const last: number[] = [];
  for (let round = -1; round < rounds; round++) {
    signal.throwIfAborted();
    const began = performance.now();
    const one = async () => {
      const { id } = await sandboxes.create(small);
      const { exit_code } = await sandboxes.exec(id, { cmd: 'true' });
      if (exit_code !== 0) throw new Error(`true ended with ${exit_code}.`);
      return { id, ms: performance.now() - began };
    };
    const made = await Promise.all(Array.from({ length: count }, one));
    if (round >= 0) {
      each.push(...made.map(({ ms }) => ms));
      last.push(Math.max(...made.map(({ ms }) => ms)));
    }
    await Promise.all(made.map(({ id }) => sandboxes.delete(id)));
  }
  return [
    { name: `${count} creates at once → first command`, unit: 'ms', samples: each },
    { name: `${count} creates at once: the last`, unit: 'ms', samples: last },
  ];
};
