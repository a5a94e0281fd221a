/** A host that works is held against what was written, and repaired only when asked. */
import { spawn } from 'node:child_process';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import type { FsckFinding } from '../packages/protocol/src/index.ts';
import type { Perch } from '../packages/sdk/src/index.ts';
import { cgroupFolders, run, vmsDir } from './setup/machine.ts';
import { PerchInstance } from './setup/perch-instance.ts';
import { newSandbox, sh } from './setup/sandbox.ts';

let instance: PerchInstance;
let perch: Perch;

beforeAll(async () => {
  instance = await PerchInstance.start({ network: 89 });
  ({ perch } = instance);
});

afterAll(async () => {
  await instance?.[Symbol.asyncDispose]();
});

/** Findings, and whether the command failed. */
async function fsck(...args: string[]): Promise<{ failed: boolean; findings: FsckFinding[] }> {
  const { failed, stdout } = await instance.run('fsck', '--json', ...args).then(
    (text) => ({ failed: false, stdout: text }),
    (error: { stdout?: string }) => ({ failed: true, stdout: error.stdout ?? '' }),
  );
  return {
    failed,
    findings: stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line)),
  };
}

async function flipByte(path: string): Promise<void> {
  await using file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, 100);
  byte.writeUInt8(byte.readUInt8(0) ^ 1);
  await file.write(byte, 0, 1, 100);
}

test('nothing is wrong with a host that works', async () => {
  await using sandbox = await newSandbox(perch);
  await perch.sandboxes.pause(sandbox.id);
  await perch.sandboxes.resume(sandbox.id);
  await perch.snapshots.create({ sandbox_id: sandbox.id, name: 'whole' });
  expect(await fsck()).toEqual({ failed: false, findings: [] });
  expect(await instance.run('fsck')).toBe('All is as it was written.\n');
  await perch.snapshots.delete('whole');
});

test('what is damaged or unowned is found, and only what nobody needs is removed, when asked', async () => {
  await using sandbox = await newSandbox(perch);
  const { id } = sandbox;
  await sh(perch, id, 'echo kept > /home/user/x');
  for (let life = 0; life < 2; life++) {
    await perch.sandboxes.pause(id);
    if (life === 0) await perch.sandboxes.resume(id);
  }
  await perch.snapshots.create({ sandbox_id: id, name: 'damaged' });
  const states = join(instance.dataDir, 'sandboxes');
  const old = join(states, id, '1');
  const named = join(instance.dataDir, 'snapshots/damaged');
  await flipByte(join(old, 'snapfile'));
  await flipByte(join(named, 'memfile.header'));
  const orphans = [
    join(states, `sb${'0'.repeat(18)}`),
    join(vmsDir(instance.dataDir), `sb${'1'.repeat(18)}`),
  ];
  for (const path of orphans) {
    mkdirSync(path);
    writeFileSync(join(path, 'left'), 'over');
  }

  const found = await fsck();
  expect(found.failed).toBe(true);
  expect(found.findings.map(({ what }) => what).toSorted()).toEqual([old, named, ...orphans].toSorted());
  expect(found.findings.every(({ repaired, remedy }) => !repaired && remedy !== '')).toBe(true);
  expect((await fsck()).findings).toEqual(found.findings);

  const repaired = await fsck('--repair');
  expect(repaired.findings.filter((one) => !one.repaired).map(({ what }) => what)).toEqual([named]);
  expect((await fsck()).findings.map(({ what }) => what)).toEqual([named]);
  await perch.snapshots.delete('damaged');
  expect(await fsck()).toEqual({ failed: false, findings: [] });
  await perch.sandboxes.resume(id);
  expect(await sh(perch, id, 'cat /home/user/x')).toBe('kept\n');
});

test('what is on the machine by its names and is no sandbox’s is found, and goes when asked', async () => {
  await using sandbox = await newSandbox(perch);
  const { instance: name } = instance;
  // As slot 30000 has them: 10.89.234.97 and its user.
  const slot = 30_000;
  const uid = 2 ** 30 + 10 * 2 ** 24 + 89 * 2 ** 16 + 2 * slot + 1;
  const lost = `sb${'2'.repeat(18)}`;
  const [groups] = cgroupFolders(name);
  if (groups === undefined) throw new Error('no sandbox has a cgroup');
  const child = spawn('sleep', ['600'], { uid, gid: uid, stdio: 'ignore' });
  onTestFinished(() => void child.kill('SIGKILL'));
  await run('ip', ['netns', 'add', `perch-${name}-${slot}`]);
  await run('nft', ['add', 'table', 'ip', `perch-${name}`]);
  mkdirSync(join(groups, lost));
  mkdirSync(join(vmsDir(instance.dataDir), lost));
  const all = [
    `process ${child.pid} of user ${uid}`,
    join(vmsDir(instance.dataDir), lost),
    `cgroup perch-${name}/${lost}`,
    `network slot perch-${name}-${slot}`,
    `nft table ip perch-${name}`,
  ];

  expect((await fsck()).findings.map(({ what }) => what)).toEqual(all);
  const repaired = await fsck('--repair');
  expect(repaired.findings.map((one) => [one.what, one.repaired])).toEqual(all.map((what) => [what, true]));
  expect(await fsck()).toEqual({ failed: false, findings: [] });
  expect(await sh(perch, sandbox.id, 'echo runs')).toBe('runs\n');
});

test('a paused sandbox whose state is lost is told', async () => {
  await using sandbox = await newSandbox(perch);
  await perch.sandboxes.pause(sandbox.id);
  const state = join(instance.dataDir, 'sandboxes', sandbox.id, '1');
  renameSync(state, `${instance.dataDir}/lost`);
  expect(await fsck('--repair')).toMatchObject({
    failed: true,
    findings: [{ what: state, repaired: false }],
  });
  renameSync(`${instance.dataDir}/lost`, state);
  expect(await fsck()).toEqual({ failed: false, findings: [] });
  await perch.sandboxes.resume(sandbox.id);
});

test('without a host agent it says what to do', async () => {
  const env = { ...instance.env, PERCH_DATA_DIR: '/nonexistent' };
  const other = Object.assign(Object.create(instance), { env }) as PerchInstance;
  await expect(other.run('fsck')).rejects.toThrow('does not answer');
});
