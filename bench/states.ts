/** States of a sandbox of which little has changed: a second pause, and a snapshot with a name while it runs. */
import { randomUUID } from 'node:crypto';
import { type Measure, machine } from './bench.ts';
import { timed } from './in-turn.ts';

export const states: Measure = async ({ instance, atMost, signal, progress }) => {
  progress(
    'a first pause, a second one with little changed, and a snapshot with a name of a sandbox that runs',
  );
  const { sandboxes, snapshots } = instance.perch;
  const first: number[] = [];
  const second: number[] = [];
  const named: number[] = [];
  const n = Math.min(20, atMost);
  for (let turn = -1; turn < n; turn++) {
    signal.throwIfAborted();
    const { id } = await sandboxes.create(machine);
    const pause = await timed(() => sandboxes.pause(id));
    await sandboxes.resume(id);
    const { exit_code } = await sandboxes.exec(id, { cmd: 'true' });
    if (exit_code !== 0) throw new Error(`true ended with ${exit_code}.`);
    const again = await timed(() => sandboxes.pause(id));
    await sandboxes.resume(id);
    const name = `bench-${randomUUID().slice(0, 8)}`;
    const snapshot = await timed(() => snapshots.create({ name, sandbox_id: id }));
    await snapshots.delete(name);
    await sandboxes.delete(id);
    if (turn < 0) continue;
    first.push(pause);
    second.push(again);
    named.push(snapshot);
  }
  return [
    { name: 'pause of a sandbox that has done nothing', unit: 'ms', samples: first },
    { name: 'pause again, little changed since the resume', unit: 'ms', samples: second },
    { name: 'snapshot with a name, of a sandbox that runs', unit: 'ms', samples: named },
  ];
};
