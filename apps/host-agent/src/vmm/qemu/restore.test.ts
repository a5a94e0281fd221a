/** Real guests whose state goes through files: see monitor.test.ts. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { chooseDisks, type DiskState } from '../../disk/index.ts';
import {
  copyDifference,
  createMapping,
  headerOf,
  type MemoryImage,
  newBuildId,
} from '../../snapshot/index.ts';
import type { Vm, VmSpec, VmState } from '../monitor.ts';
import type { Step } from './test-guest.ts';
import { canRunGuests, diskBytes, TestMachine } from './test-machine.ts';
import { fileNames } from './vm-directory.ts';

const patience = { timeout: 60_000, interval: 50 };
const talking: Step[] = [{ say: 'guest is up\n' }, { repeat: 'still here\n' }];

async function untilSays(vm: Vm, text: string): Promise<void> {
  await expect.poll(async () => String(await vm.console()), patience).toContain(text);
}

/** A stopped guest, as files for others to go on from. */
async function save(
  machine: TestMachine,
  vm: Vm,
  { memoryMb }: VmSpec,
  parent?: MemoryImage,
): Promise<VmState & { changedBytes: number }> {
  const build = newBuildId();
  const { devices, memory } = await vm.saveState(build, parent?.header.build);
  const target = { build, parent, memoryBytes: memoryMb * 2 ** 20 };
  const path = join(machine.root, `memfile-${build}`);
  const { diff } = await copyDifference(memory, target, path);
  const header = await headerOf(memory.since, diff, target);
  const snapfile = join(machine.root, `snapfile-${build}`);
  await writeFile(snapfile, devices, { mode: 0o444 });
  return {
    image: { header, memfileOf: (one) => (one === build ? path : (parent?.memfileOf(one) ?? '')) },
    devices: snapfile,
    changedBytes: memory.runs.reduce((sum, { length }) => sum + length, 0),
  };
}

async function copyOf(machine: TestMachine, spec: VmSpec, id: string): Promise<VmSpec> {
  return machine.specFor(id, { initramfs: spec.initramfs });
}

describe.runIf(canRunGuests)('the state of a machine', { timeout: 120_000 }, () => {
  test('is what others go on from, as often as they like, and a thawed source too', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor();
    const spec = await machine.spec('source', talking);
    const source = await monitor.boot(spec);
    await untilSays(source, 'still here');
    await source.freeze();
    await source.freeze();
    expect(await source.isFrozen()).toBe(true);
    const state = await save(machine, source, spec);

    for (const id of ['first', 'second']) {
      const copy = await monitor.restore(await copyOf(machine, spec, id), state);
      expect(await copy.isFrozen()).toBe(true);
      expect(String(await copy.console())).toBe('');
      await copy.thaw();
      await untilSays(copy, 'still here');
      expect(String(await copy.console())).not.toContain('guest is up');
      expect(await readFile(join(machine.root, 'vms', id, fileNames.log), 'utf8')).toBe('');
      await copy.kill();
    }
    await source.thaw();
    expect(await source.isFrozen()).toBe(false);
    await source.console();
    await untilSays(source, 'still here');
    await source.kill();
  });

  test('of a copy is its changed pages over the same memory', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor();
    const spec = await machine.spec('source', talking);
    const source = await monitor.boot(spec);
    await untilSays(source, 'still here');
    await source.freeze();
    const state = await save(machine, source, spec);
    await source.kill();

    const copy = await monitor.restore(await copyOf(machine, spec, 'copy'), state);
    await copy.thaw();
    await untilSays(copy, 'still here');
    const atMost = await copy.unsavedBytesAtMost();
    await copy.freeze();
    const next = await save(machine, copy, spec, state.image);
    expect(next.changedBytes).toBeLessThan(state.changedBytes / 4);
    expect(next.changedBytes).toBeGreaterThan(0);
    expect(atMost).toBeGreaterThan(0);
    await copy.kill();

    const third = await monitor.restore(await copyOf(machine, spec, 'third'), next);
    await third.thaw();
    await untilSays(third, 'still here');
    await third.kill();
  });

  test('is gone on from while its source lives, whose disk lies on layers that both have', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor();
    const disks = chooseDisks('auto');
    const spec = await machine.spec('source', talking);
    const source = await monitor.boot(spec);
    await untilSays(source, 'still here');
    const place = { ...spec, sizeBytes: diskBytes };
    const early = await disks.prepareCapture(place, source);
    if (disks.capabilities.online === 'switch')
      await expect(early.holdStill()).rejects.toThrow('not stopped');
    let parent: DiskState = { format: 'image', image: await machine.emptyBase() };
    for (const id of ['first', 'second']) {
      const capture = await disks.prepareCapture(place, source);
      await source.freeze();
      const state = await save(machine, source, spec);
      await capture.holdStill();
      await source.thaw();
      let files = 0;
      parent = await capture.write(parent, () => join(machine.root, `${id}-${files++}.cow`));
      const copy = await monitor.restore(
        await machine.specFor(id, { initramfs: spec.initramfs, from: parent }),
        state,
      );
      await copy.thaw();
      await untilSays(copy, 'still here');
    }
    await source.console();
    await untilSays(source, 'still here');
  });

  test('that cannot be loaded leaves no process and no file', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor();
    const spec = await machine.spec('source', talking);
    const memory = join(machine.root, 'memfile');
    const build = newBuildId();
    const header = {
      generation: 0,
      build,
      baseBuild: build,
      mapping: createMapping(spec.memoryMb * 2 ** 20),
    };
    const state: VmState = {
      image: { header, memfileOf: () => memory },
      devices: join(machine.root, 'snapfile'),
    };
    await writeFile(memory, Buffer.alloc(spec.memoryMb * 2 ** 20), { mode: 0o444 });
    await writeFile(state.devices, 'no device state', { mode: 0o444 });
    await expect(monitor.restore(spec, state)).rejects.toThrow('did not start');
  });
});
