/** Real guests whose state goes through files: see monitor.test.ts. */
import { link, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createQcow2Layer } from '../../disk/index.ts';
import type { GuestMemory, Vm, VmSpec } from '../monitor.ts';
import type { Step } from './test-guest.ts';
import { canRunGuests, TestMachine } from './test-machine.ts';
import { fileNames } from './vm-directory.ts';

const patience = { timeout: 60_000, interval: 50 };
const talking: Step[] = [{ say: 'guest is up\n' }, { repeat: 'still here\n' }];

async function untilSays(vm: Vm, text: string): Promise<void> {
  await expect.poll(async () => String(await vm.console()), patience).toContain(text);
}

async function changes(memory: GuestMemory) {
  const runs = memory.changed();
  const bytes = Buffer.alloc(runs.reduce((sum, { length }) => sum + length, 0));
  await memory.read(runs, bytes);
  return { runs, bytes };
}

/** The whole memory as a file with each page at its place, and the device state beside it. */
async function save(machine: TestMachine, vm: Vm, memoryMb: number, name = '0') {
  const { runs, bytes } = await changes(vm.memory());
  const state = {
    memory: join(machine.root, `memfile-${name}`),
    devices: join(machine.root, `snapfile-${name}`),
  };
  const file = await open(state.memory, 'w', 0o444);
  await file.truncate(memoryMb * 2 ** 20);
  let at = 0;
  for (const { offset, length } of runs) {
    await file.write(bytes, at, length, offset);
    at += length;
  }
  await file.close();
  await writeFile(state.devices, await vm.saveDevices(), { mode: 0o444 });
  return state;
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
    const state = await save(machine, source, spec.memoryMb);

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
    const state = await save(machine, source, spec.memoryMb);
    const all = await changes(source.memory());
    await source.kill();

    const copy = await monitor.restore(await copyOf(machine, spec, 'copy'), state);
    await copy.thaw();
    await untilSays(copy, 'still here');
    await copy.freeze();
    const changed = await changes(copy.memory());
    expect(changed.bytes.length).toBeLessThan(all.bytes.length / 4);
    const devices = join(machine.root, 'snapfile-2');
    await writeFile(devices, await copy.saveDevices(), { mode: 0o444 });
    await copy.kill();

    const third = await monitor.restore(await copyOf(machine, spec, 'third'), {
      memory: state.memory,
      devices,
      fill: (memory) => memory.write(changed.runs, changed.bytes),
    });
    // What was put in has changed against the file, too: the next difference is from the same memory.
    const { length } = (await changes(third.memory())).bytes;
    expect(length).toBeGreaterThanOrEqual(changed.bytes.length);
    await third.thaw();
    await untilSays(third, 'still here');
    await third.kill();
  });

  test('is gone on from while its source lives, whose disk lies on layers that both have', async () => {
    await using machine = new TestMachine();
    const monitor = await machine.monitor();
    const layer = createQcow2Layer();
    const spec = await machine.spec('source', talking);
    const source = await monitor.boot(spec);
    await untilSays(source, 'still here');
    const prepare = async () => source.prepareDisk(await layer.add({ ...spec, sizeBytes: 2 ** 30 }));
    const early = await prepare();
    await expect(early()).rejects.toThrow('not stopped');
    for (const id of ['first', 'second']) {
      const switchDisk = await prepare();
      await source.freeze();
      const state = await save(machine, source, spec.memoryMb, id);
      await switchDisk();
      await source.thaw();
      const lower: string[] = [];
      for (const { path } of (await layer.layers(spec)).slice(0, -1)) {
        lower.push(join(machine.root, `${id}-${lower.length}.qcow2`));
        // Captured by the snapshot before as well.
        if (id === 'first' || lower.length > 2) await layer.capture(spec, path, lower.at(-1) ?? '');
        else await link(path, lower.at(-1) ?? '');
        await layer.seal(lower.at(-1) ?? '');
      }
      const copy = await monitor.restore(
        await machine.specFor(id, { initramfs: spec.initramfs, lower }),
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
    const state = { memory: join(machine.root, 'memfile'), devices: join(machine.root, 'snapfile') };
    await writeFile(state.memory, Buffer.alloc(spec.memoryMb * 2 ** 20), { mode: 0o444 });
    await writeFile(state.devices, 'no device state', { mode: 0o444 });
    await expect(monitor.restore(spec, state)).rejects.toThrow('did not start');
  });
});
