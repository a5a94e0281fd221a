/**
 * Figures of the ways in which a guest under Firecracker gets its memory back: each way goes on from the same state, which
 * lies over another, and in turn, in the lab on XFS. Milliseconds: median, least and most. `--samples N` of each.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Vm, VmState } from '../../apps/host-agent/src/vmm/monitor.ts';
import { TestMachine } from '../../apps/host-agent/src/vmm/qemu/test-machine.ts';
import { save } from '../../apps/host-agent/src/vmm/test-vm.ts';
import type { MonitorChoice } from '../../packages/protocol/src/index.ts';
import { LabFacts } from './lab-facts.ts';

/** Another monitor has one way, whatever it is asked for. */
const vmm = (process.env.PERCH_VMM ?? 'firecracker') as MonitorChoice;
if (vmm === 'firecracker') process.env.PERCH_ROOTFS = 'device-mapper';
const { samples } = parseArgs({ options: { samples: { type: 'string', default: '5' } } }).values;
const facts = new LabFacts();
const word = 'still here';

await using machine = new TestMachine();
const spec = await machine.spec('source', [{ repeat: `${word}\n` }]);
const source = await (await machine.monitor(vmm)).boot(spec);
await says(source);
await source.freeze();
const whole = await save(machine, source, spec);
await source.thaw();
await source.console();
await says(source);
await source.freeze();
const chain = await save(machine, source, spec, whole.image);
await source.kill();
facts.add('states', { whole: whole.changedBytes, 'over it': chain.changedBytes });

/** By the value of PERCH_RESTORE: what it is asked for, and of which state. */
const ways: Record<string, { setting: string; state: VmState }> = {
  'one memfile, mapped': { setting: 'file', state: whole },
  'over another, copied': { setting: 'file', state: chain },
  'over another, composed': { setting: 'reflink', state: chain },
  'over another, paged': { setting: 'pager', state: chain },
  'over another, paged ahead': { setting: 'pager', state: chain },
};
const seen = Object.fromEntries(Object.keys(ways).map((name) => [name, [] as number[][]]));
let count = 0;
for (let turn = 0; turn < Number(samples); turn++) {
  for (const [name, { setting, state }] of Object.entries(ways)) {
    process.env.PERCH_RESTORE = setting;
    machine.prefetchMib = name.endsWith('ahead') ? 64 : 0;
    const monitor = await machine.monitor(vmm);
    const copy = await machine.specFor(`copy${count++}`, { initramfs: spec.initramfs });
    const began = performance.now();
    const vm = await monitor.restore(copy, state);
    const stopped = performance.now();
    await vm.thaw();
    await says(vm);
    const times = [vm.memoryWay?.ms ?? 0, stopped - began, performance.now() - began];
    seen[name]?.push(times.map(Math.round));
    // A working set is kept at the end of a guest that has run.
    await vm.kill();
  }
}
for (const [name, times] of Object.entries(seen)) {
  const [ready, restored, first] = [0, 1, 2].map((at) => spread(times.map((one) => one[at] ?? 0)));
  facts.add(name, { n: times.length, 'memory ready': ready, 'guest stands': restored, 'first word': first });
}
facts.tell();

async function says(vm: Vm): Promise<void> {
  while (!(await vm.console()).includes(word)) await sleep(5);
}

/** @returns the median, and the least and the most */
function spread(values: readonly number[]): [number, number, number] {
  const sorted = values.toSorted((a, b) => a - b);
  return [sorted[Math.floor(sorted.length / 2)] ?? 0, sorted[0] ?? 0, sorted.at(-1) ?? 0];
}
