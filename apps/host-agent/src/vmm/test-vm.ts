/** A VM, as tests of any monitor look at it. */
import { chown, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { openCgroups, type ProcessRef, processesOfUid } from '../linux/index.ts';
import { encodeHeader } from '../snapshot/header.ts';
import { copyDifference, headerOf, type MemoryImage, newBuildId } from '../snapshot/index.ts';
import type { Vm, VmSpec, VmState } from './monitor.ts';
import type { TestMachine } from './qemu/test-machine.ts';

/** What takes 1 on a machine takes so much in the lab. */
const slowness = Number(process.env.PERCH_TEST_SLOWNESS || 1);
/** Of a guest under TCG, or in the lab, on a machine that does other things too. */
export const patience = { timeout: 120_000 * slowness, interval: 50 };

export async function untilSays(vm: Vm, text: string): Promise<void> {
  await expect.poll(async () => String(await vm.console()), patience).toContain(text);
}

/** Puts a file that is no disk in the place of one. */
export async function spoilDisk({ disk: { path }, uid }: VmSpec): Promise<void> {
  await rm(path);
  await writeFile(path, 'not a disk');
  await chown(path, uid, uid);
}

/** The process that is the monitor. */
export function of(vm: Vm): ProcessRef {
  const [process] = vm.processes;
  if (!process) throw new Error('The VM has no process');
  return process;
}

export async function leftovers(machine: TestMachine, spec: VmSpec) {
  const cgroups = await openCgroups();
  return {
    processes: processesOfUid(spec.uid).length,
    cgroups: await cgroups.list(`perch-${machine.instance}`),
  };
}

export const none = { processes: 0, cgroups: [] };

/** A stopped guest, as files for others to go on from. */
export async function save(
  machine: TestMachine,
  vm: Vm,
  { memoryMb }: VmSpec,
  parent?: MemoryImage,
): Promise<VmState & { changedBytes: number; since: string }> {
  const build = newBuildId();
  const { devices, memory } = await vm.saveState(build, parent?.header.build);
  const target = { build, parent, memoryBytes: memoryMb * 2 ** 20 };
  const path = join(machine.root, `memfile-${build}`);
  const { diff } = await copyDifference(memory, target, path);
  const header = await headerOf(memory.since, diff, target);
  const headerFile = join(machine.root, `memfile.header-${build}`);
  await writeFile(headerFile, encodeHeader(header), { mode: 0o444 });
  const snapfile = join(machine.root, `snapfile-${build}`);
  await writeFile(snapfile, devices, { mode: 0o444 });
  return {
    image: {
      header,
      headerFile,
      memfileOf: (one) => (one === build ? path : (parent?.memfileOf(one) ?? '')),
    },
    devices: snapfile,
    changedBytes: memory.runs.reduce((sum, { length }) => sum + length, 0),
    since: memory.since,
  };
}
