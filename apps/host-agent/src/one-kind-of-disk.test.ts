import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exitCodeOf } from './exit-code.ts';
import { Journal } from './lifecycle/index.ts';
import { type ProcessRef, readProcess } from './linux/index.ts';
import { disksInUse, requireOneKindOfDisk } from './one-kind-of-disk.ts';

const instance = 'abcdef';
/** The file of the disk of a VM, by its kind. */
const fileOf = { qcow2: 'rootfs.qcow2', 'device-mapper': 'rootfs.cow' };
type Kind = keyof typeof fileOf;
const isRoot = process.getuid?.() === 0;

/** A process that lives as long as it is in scope. */
async function living(): Promise<ProcessRef & AsyncDisposable> {
  const child = spawn('sleep', ['600'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const info = child.pid === undefined ? undefined : readProcess(child.pid);
  if (!info) throw new Error('it has no process');
  const { pid, startTime } = info;
  return {
    ...{ pid, startTime },
    [Symbol.asyncDispose]: async () => {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** A data directory whose journal has sandboxes of these ids. */
async function dataWith(ids: readonly string[], kind: Kind, process: ProcessRef) {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const [host, vmsDir] = [join(dir.path, 'host'), join(dir.path, 'host', 'vms')];
  await mkdir(vmsDir, { recursive: true });
  const file = join(host, 'journal.db');
  const journal = new Journal(file);
  const rest = { base: '', kernel: '', initramfs: '', template: 'base', generation: 1 };
  for (const id of ids) {
    journal.insert({ id, kind: 'sandbox', vcpus: 1, memory_mb: 128, disk_mb: 64, ...rest });
    journal.setProcesses(id, [process]);
    journal.transition(id, 'running');
    await mkdir(join(vmsDir, id));
    await writeFile(join(vmsDir, id, fileOf[kind]), '');
  }
  return {
    ...{ dir: dir.path, file, journal },
    start: async (as: Kind | 'auto') =>
      requireOneKindOfDisk(as, await disksInUse({ instance, journal, vmsDir })),
    [Symbol.asyncDispose]: () => dir.remove(),
  };
}

test.each<[Kind, Kind]>([
  ['qcow2', 'device-mapper'],
  ['device-mapper', 'qcow2'],
])(
  'sandboxes that run on %s keep a host from starting with %s, and are what it goes on with by itself',
  async (has, other) => {
    await using process = await living();
    const ids = Array.from({ length: 12 }, (_, i) => `sb${i + 10}`);
    await using data = await dataWith(ids, has, process);
    for (const same of [has, 'auto'] as const) expect(await data.start(same)).toBe(has);
    const error = await data.start(other).catch((cause: unknown) => cause);
    expect(`${error}`).toBe(
      `Error: PERCH_ROOTFS is ${other}, and there are sandboxes on disks of ${has}: ` +
        `${ids.slice(0, 10).join(', ')} and 2 more. Start with PERCH_ROOTFS=${has}. To change it, pause or destroy ` +
        'them then, and stop Perch: perch down --keep',
    );
    expect(exitCodeOf(error)).toBe(78);
  },
);

test('one whose monitor has ended keeps no host from starting, as after a power cut', async () => {
  const { pid, startTime } = await living().then(async (process) => {
    await process[Symbol.asyncDispose]();
    return process;
  });
  await using data = await dataWith(['sb1'], 'qcow2', { pid, startTime });
  for (const any of ['device-mapper', 'auto'] as const) expect(await data.start(any)).toBe(any);
});

test.runIf(isRoot)('perch-host says so before it does anything, and the sandbox runs on', async () => {
  await using process_ = await living();
  await using data = await dataWith(['sb1'], 'device-mapper', process_);
  data.journal.close();
  await writeFile(join(data.dir, 'instance'), `${instance}\n`);
  const files = { PERCH_KERNEL: '/nowhere', PERCH_INITRAMFS: '/nowhere', PERCH_BASE_IMAGE: '/nowhere' };
  const env = { PERCH_DATA_DIR: data.dir, PERCH_ROOTFS: 'qcow2', PERCH_USER: 'root' };
  const main = join(import.meta.dirname, 'main.ts');
  const { promise, resolve } = Promise.withResolvers<{ code: unknown; said: string }>();
  execFile(
    process.execPath,
    [main],
    { env: { PATH: process.env.PATH, ...files, PERCH_BASE_IMAGE_ID: 'a'.repeat(64), ...env } },
    (error, said) => resolve({ code: error?.code, said }),
  );
  const { code, said } = await promise;
  expect(said).toContain('there are sandboxes on disks of device-mapper: sb1.');
  expect(code).toBe(78);
  const journal = new Journal(data.file);
  expect([journal.get('sb1')?.status, journal.setting('network')]).toEqual(['running', undefined]);
  journal.close();
});
