/** The disk of the host is full while guests write to theirs. */
import { rmSync, statfsSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Failpoint } from '../apps/host-agent/src/failpoints/index.ts';
import { dataPaths } from '../packages/protocol/src/index.ts';
import type { Perch } from '../packages/sdk/src/index.ts';
import { Armed } from './setup/armed.ts';
import { eventually } from './setup/eventually.ts';
import { daemonPid, monitorOf, needsNoCpu, run } from './setup/machine.ts';
import { PerchInstance } from './setup/perch-instance.ts';
import { PowerDisk } from './setup/power.ts';
import { newSandbox, sh } from './setup/sandbox.ts';

const MiB = 2 ** 20;
const shape = { memory_mb: 256, disk_mb: 1024, timeout_sec: 1800 };
let disk: PowerDisk;
let armed: Armed<Failpoint>;
let instance: PerchInstance;
let perch: Perch;

beforeAll(async () => {
  disk = await PowerDisk.make({ bytes: 6 * 2 ** 30 });
  armed = await Armed.make<Failpoint>();
  instance = await PerchInstance.start({
    network: 96,
    dataDir: join(disk.path, 'perch'),
    env: { PERCH_FAILPOINTS: armed.file, PERCH_KEEP_DISK_MB: '0' },
  });
  ({ perch } = instance);
});

afterAll(async () => {
  makeRoom();
  await instance?.[Symbol.asyncDispose]();
  await armed?.[Symbol.asyncDispose]();
  await disk?.[Symbol.asyncDispose]();
});

beforeEach(makeRoom);

const filler = () => join(disk.path, 'filler');

/** Free for anybody but root. */
function freeBytes(): number {
  const { bavail, bsize } = statfsSync(disk.path);
  return bavail * bsize;
}

async function fill(left: number): Promise<void> {
  // The room of removed files becomes free with the next commit of the file system's journal.
  await run('sync', ['--file-system', disk.path]);
  await run('fallocate', ['-l', `${freeBytes() - left}`, filler()]);
}

function makeRoom(): void {
  rmSync(filler(), { force: true });
}

async function lacking(): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const { hostSocket } = dataPaths(instance.dataDir);
  const call = request({ socketPath: hostSocket, path: '/metrics' });
  call.on('response', (answer) => void text(answer).then(resolve, reject));
  call.on('error', reject);
  call.end();
  const found = /^perch_host_sandboxes_without_room (\d+)$/m.exec(await promise);
  return Number(found?.[1]);
}

const untilLacking = (count: number) =>
  eventually(async () => (await lacking().catch(() => undefined)) === count, 60_000);

/** Lines of the log about the guest of a sandbox and room. */
async function told(id: string): Promise<string[]> {
  const lines = (await instance.log('perch-host')).split('\n').filter((line) => line.includes(id));
  return lines.flatMap((line) => /"msg":"a guest (stands still|goes on)/.exec(line)?.[1] ?? []);
}

/** Writes more than there is room for, bit by bit, and says what it wrote. */
function write(id: string): Promise<string> {
  const bit = 'head -c 1500000 /dev/urandom >> /home/user/data; sync';
  const line = `for bit in $(seq 50); do ${bit}; done; cksum < /home/user/data`;
  return sh(perch, id, line, 150);
}

async function expectWhole(id: string, sum: string): Promise<void> {
  expect(await sh(perch, id, 'echo 3 | sudo tee /proc/sys/vm/drop_caches >&2; cksum < /home/user/data')).toBe(
    sum,
  );
  expect(await sh(perch, id, 'sudo dmesg | grep -ciE "i/o error|ext4-fs error|remounting" || true')).toBe(
    '0\n',
  );
}

test('a guest stands still until there is room, also over an end of the host agent, and loses nothing', async () => {
  await using sandbox = await newSandbox(perch, shape);
  const { id } = sandbox;
  await fill(40 * MiB);
  const written = write(id);
  await untilLacking(1);
  expect(await told(id)).toEqual(['stands still']);
  expect((await perch.sandboxes.get(id)).status).toBe('running');
  await expect(perch.sandboxes.pause(id)).rejects.toMatchObject({ code: 'capacity_exhausted' });
  const before = daemonPid(instance.dataDir, 'perch-host') ?? 0;
  process.kill(before, 'SIGKILL');
  await eventually(() => daemonPid(instance.dataDir, 'perch-host') !== before);
  await untilLacking(1);
  makeRoom();
  const sum = await written;
  await untilLacking(0);
  expect((await told(id)).at(-1)).toBe('goes on');
  await expectWhole(id, sum);
  await perch.sandboxes.pause(id);
  await perch.sandboxes.resume(id);
  await expectWhole(id, sum);
});

test('a pause of a guest that cannot write is refused while there is no room, and it loses nothing', async () => {
  await using sandbox = await newSandbox(perch, shape);
  const { id } = sandbox;
  const monitor = monitorOf(instance.dataDir, id);
  const isRefused = async (memory: boolean) => {
    const call = async () => {
      await perch.sandboxes.pause(id, { memory });
      return [];
    };
    // Room was found for the pause, and the guest is not stopped yet.
    const answer = await armed.holdAt('pause.begun', { call }, async () => {
      await fill(20 * MiB);
      await eventually(() => needsNoCpu(monitor, 500), 60_000);
    });
    expect(answer).toMatchObject({ refused: { code: 'host_disk_full' } });
    expect((await perch.sandboxes.get(id)).status).toBe('running');
    await untilLacking(1);
    makeRoom();
  };
  const written = write(id);
  await isRefused(true);
  await expectWhole(id, await written);
  const cut = write(id).catch(() => 'cut');
  await isRefused(false);
  // Nobody has seen the guest go on yet.
  await perch.sandboxes.pause(id, { memory: false });
  expect(await cut).toBe('cut');
});

test('a guest that stands still can be destroyed', async () => {
  await using sandbox = await newSandbox(perch, shape);
  await fill(40 * MiB);
  const written = write(sandbox.id).catch(() => 'gone');
  await untilLacking(1);
  await perch.sandboxes.delete(sandbox.id);
  expect(await written).toBe('gone');
  await untilLacking(0);
});
