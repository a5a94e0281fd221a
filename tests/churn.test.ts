import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { leaks } from '../apps/cli/src/launcher/index.ts';
import { readSettings } from '../packages/protocol/src/index.ts';
import {
  daemonPid,
  footprint,
  footprintOf,
  hostSandboxes,
  openFiles,
  readInstance,
} from './setup/machine.ts';
import { sharedPerch } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

const perch = sharedPerch();
const { dataDir, env } = shared;
const instance = { dataDir, instance: readInstance(dataDir) };

const count = 50;
const atOnce = 4;

/** How many there are of each kind; of processes come and go those that serve connections to the database. */
async function machine(): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const { kind, name } of await leaks(readSettings(env))) {
    if (!/postgres/.test(name)) found[kind] = (found[kind] ?? 0) + 1;
  }
  return found;
}

function daemons() {
  const [host = 0, control = 0] = [daemonPid(dataDir, 'perch-host'), daemonPid(dataDir, 'perchd')];
  const of = (pid: number) => ({ fds: openFiles(pid), threads: readdirSync(`/proc/${pid}/task`).length });
  return { host: { pid: host, ...of(host) }, control: { pid: control, ...of(control) } };
}

test('fifty sandboxes made and destroyed leave nothing behind', { timeout: 600_000 }, async () => {
  await expect.poll(() => footprint(instance), { timeout: 30_000 }).toEqual(footprintOf());
  // A thing that is opened once and kept, such as connections between the daemons, is there after the first.
  await Promise.all(Array.from({ length: atOnce }, live));
  await expect.poll(() => footprint(instance), { timeout: 30_000 }).toEqual(footprintOf());
  const before = { machine: await machine(), ...daemons() };
  const started = performance.now();

  let left = count - atOnce;
  const ids = new Set<string>();
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (left-- > 0) ids.add(await live());
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  console.log(`${ids.size} creates and destroys in ${seconds.toFixed(1)} s`);
  expect(ids.size).toBe(count - atOnce);

  await expect.poll(() => footprint(instance), { timeout: 30_000 }).toEqual(footprintOf());
  expect(await hostSandboxes(dataDir)).toEqual([]);
  expect((await perch.sandboxes.list()).items).toEqual([]);
  expect(await machine()).toEqual(before.machine);
  expect(readdirSync(join(dataDir, 'control/uploads'))).toEqual([]);
  await expectFlat(before);
});

test('a hundred pauses and resumes keep nothing open', { timeout: 600_000 }, async () => {
  await using made = new AsyncDisposableStack();
  const ids = await Promise.all(
    Array.from({ length: atOnce }, async () => {
      const { id } = await perch.sandboxes.create(small);
      made.defer(() => perch.sandboxes.delete(id));
      return id;
    }),
  );
  const cycles = async (times: number) =>
    await Promise.all(
      ids.map(async (id) => {
        for (let cycle = 0; cycle < times; cycle++) {
          await perch.sandboxes.pause(id);
          await perch.sandboxes.resume(id);
        }
        expect((await perch.sandboxes.exec(id, { cmd: 'hostname' })).stdout).toBe(`${id}\n`);
      }),
    );
  await cycles(1);
  const before = daemons();
  await cycles(100 / atOnce);
  await expect.poll(() => footprint(instance), { timeout: 30_000 }).toEqual(footprintOf(...ids));
  await expectFlat(before);
});

const small = { memory_mb: 128, disk_mb: 1024, timeout_sec: 600 };

/** The descriptors that stay open: tools that make a network slot ahead have their pipes for a moment. */
async function expectFlat(before: ReturnType<typeof daemons>): Promise<void> {
  const grown = () => {
    const after = daemons();
    return (['host', 'control'] as const)
      .map((name) => ({ name, was: before[name], is: after[name] }))
      .filter(({ was, is }) => is.fds > was.fds + 4 || is.threads > was.threads + 2);
  };
  await expect.poll(grown).toEqual([]);
  const { host, control } = daemons();
  expect([host.pid, control.pid]).toEqual([before.host.pid, before.control.pid]);
}

/** One life, with a command in it. @returns its id */
async function live(): Promise<string> {
  const { id } = await perch.sandboxes.create(small);
  const { stdout } = await perch.sandboxes.exec(id, { cmd: 'hostname' });
  expect(stdout).toBe(`${id}\n`);
  await perch.sandboxes.delete(id);
  return id;
}
