import { statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from './setup/eventually.ts';
import { daemonPid, vmDirectories, vmsDir } from './setup/machine.ts';
import { newSandbox, sh, sharedPerch, type TestSandbox } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

const perch = sharedPerch();
const { dataDir } = shared;
const diskMb = 1024;

let abused: TestSandbox;
let neighbour: TestSandbox;
let daemons: (number | undefined)[];

beforeAll(async () => {
  daemons = [daemonPid(dataDir, 'perch-host'), daemonPid(dataDir, 'perchd')];
  expect(daemons).not.toContain(undefined);
  [abused, neighbour] = await Promise.all([newSandbox(perch, { disk_mb: diskMb }), newSandbox(perch)]);
});

afterAll(async () => {
  await Promise.all([abused, neighbour].map((sandbox) => sandbox?.[Symbol.asyncDispose]()));
});

/** Starts a line in the abused sandbox that goes on by itself. */
async function start(line: string): Promise<void> {
  await perch.sandboxes.files.write(abused.id, '/tmp/abuse.sh', line);
  await sh(perch, abused.id, 'setsid bash /tmp/abuse.sh >/tmp/abuse.log 2>&1 </dev/null &');
}

async function expectOthersUndisturbed(): Promise<void> {
  expect(await sh(perch, neighbour.id, 'python3 -c "print(6 * 7)"', 60)).toBe('42\n');
  expect([daemonPid(dataDir, 'perch-host'), daemonPid(dataDir, 'perchd')]).toEqual(daemons);
  expect(await perch.health()).toMatchObject({ status: 'ok' });
}

/** Runs commands again, or is failed and says why. */
async function expectUsableOrFailed(): Promise<void> {
  await eventually(async () => {
    const { status, reason } = await perch.sandboxes.get(abused.id);
    if (status === 'failed') return reason !== undefined && reason !== '';
    const answer = await perch.sandboxes
      .exec(abused.id, { cmd: 'echo', args: ['here'], timeout_sec: 10 })
      .catch(() => undefined);
    return answer?.stdout === 'here\n';
  }, 120_000);
}

test('one that fills its disk gets ENOSPC, keeps to its quota on the host, and lives', async () => {
  const filled = await perch.sandboxes.exec(abused.id, {
    cmd: 'sh',
    args: ['-c', 'dd if=/dev/zero of=/home/user/full bs=1M conv=fsync'],
    timeout_sec: 150,
  });
  expect(filled.exit_code).not.toBe(0);
  expect(filled.stderr).toContain('No space left on device');
  const overlay = join(vmsDir(dataDir), abused.id, 'rootfs.qcow2');
  const occupied = statSync(overlay).blocks * 512;
  expect(occupied).toBeGreaterThan(100 * 2 ** 20);
  // The tables of qcow2 take 1/8192 of what they map, and some clusters more.
  expect(occupied).toBeLessThan(diskMb * 2 ** 20 * 1.001 + 2 ** 20);
  await expectOthersUndisturbed();
  await expect(
    perch.sandboxes.files.write(abused.id, '/home/user/more', 'x'.repeat(2 ** 20)),
  ).rejects.toMatchObject({
    code: 'disk_full',
    status: 507,
  });
  expect(
    await sh(perch, abused.id, 'rm /home/user/full && echo x > /home/user/more && cat /home/user/more'),
  ).toBe('x\n');
});

test('one that takes all memory disturbs nobody', async () => {
  await start('exec python3 -c "x = [bytes(2 ** 20) for _ in range(4096)]"');
  await expectOthersUndisturbed();
  await expectUsableOrFailed();
  await expectOthersUndisturbed();
});

test('one with a fork bomb disturbs nobody, answers itself, and can be destroyed', async () => {
  expect(await perch.sandboxes.get(abused.id)).toMatchObject({ status: 'running' });
  await start('bomb() { bomb | bomb & }; bomb');
  // `running/all` tasks are the fourth field.
  const tasks = async () => Number((await sh(perch, abused.id, 'cat /proc/loadavg')).split(/[ /]/)[4]);
  await expect.poll(tasks, { timeout: 120_000 }).toBeGreaterThan(250);
  await expectOthersUndisturbed();
  await perch.sandboxes.delete(abused.id);
  expect(vmDirectories(dataDir)).not.toContain(abused.id);
  await expectOthersUndisturbed();
});
