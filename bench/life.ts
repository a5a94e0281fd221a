/** The life of a sandbox of 256 MiB in the lab, beside that of another system, whose figures were taken in a lab of the same kind. */
import { randomUUID } from 'node:crypto';
import { type Measure, machine } from './bench.ts';
import { timed } from './in-turn.ts';

/** wrenn at 63e9132, on Firecracker: milliseconds. */
const others = { create: 6700, pause: 5800, resume: 6800, template: 19_500 };
/** Of its machines, MiB. */
const othersMb = 256;

export const life: Measure = async ({
  instance,
  memoryMb: memory_mb = othersMb,
  atMost,
  signal,
  progress,
}) => {
  if (process.env.PERCH_LAB !== '1') {
    progress('the life of a sandbox beside that of another system is left out: it was measured in the lab');
    return [];
  }
  progress(`the life of a sandbox of ${memory_mb} MiB`);
  const { sandboxes, snapshots } = instance.perch;
  const stages = { create: [] as number[], pause: [] as number[], resume: [] as number[] };
  const template: number[] = [];
  const standalone: number[] = [];
  for (let turn = -1; turn < Math.min(10, atMost); turn++) {
    signal.throwIfAborted();
    const name = `life-${randomUUID()}`;
    let began = performance.now();
    const { id } = await sandboxes.create({ ...machine, memory_mb });
    await sandboxes.exec(id, { cmd: 'true' });
    const create = performance.now() - began;
    const captured = await timed(() => snapshots.create({ name, sandbox_id: id }));
    const flattened = captured + (await timed(() => snapshots.flatten(name)));
    const pause = await timed(() => sandboxes.pause(id));
    began = performance.now();
    await sandboxes.resume(id);
    await sandboxes.exec(id, { cmd: 'true' });
    const resume = performance.now() - began;
    await sandboxes.delete(id);
    await snapshots.delete(name);
    // The first create boots the guest of this size, which those after it go on from.
    if (turn < 0) continue;
    stages.create.push(create);
    stages.pause.push(pause);
    stages.resume.push(resume);
    template.push(captured);
    standalone.push(flattened);
  }
  const row = (name: string, samples: readonly number[], other: number) => ({
    ...{ name: `${memory_mb} MiB, by another system: ${name}`, unit: 'ms' as const, samples },
    // Of other machines it has no figures.
    ...(memory_mb === othersMb ? { floor: [other], targets: { ratio_p50: 1 } } : {}),
  });
  return [
    row('create → first command', stages.create, others.create),
    row('pause', stages.pause, others.pause),
    row('resume → first command', stages.resume, others.resume),
    row('snapshot of a running sandbox', template, others.template),
    row('the same, flattened', standalone, others.template),
  ];
};
