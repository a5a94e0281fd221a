import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { processesOfUid } from '../../linux/index.ts';
import { nobodysUid } from '../test-guest.ts';
import { createQcow2Disks } from './index.ts';
import { runQemuImg } from './qemu-img.ts';

const MiB = 2 ** 20;
const sizeBytes = 256 * MiB;
const uid = nobodysUid();

const root = mkdtempSync(join(tmpdir(), 'perch-merge-'));
afterAll(() => rmSync(root, { recursive: true }));
const base = join(root, 'base.ext4');
writeFileSync(base, Buffer.alloc(64 * MiB, 'base'), { mode: 0o444 });

const disks = createQcow2Disks();
const stateOf = (layers: readonly string[]) => ({ format: 'qcow2', base, layers }) as const;

/** Layers by their paths, as QEMU is told of them by a monitor. */
function chain(layers: readonly string[], writable = false): string {
  const file = (driver: string, filename: string, last: boolean) => ({
    ...{ driver, 'read-only': !last, file: { driver: 'file', filename, 'read-only': !last } },
  });
  let below: object = file('raw', base, false);
  for (const [i, path] of layers.entries()) {
    below = { ...file('qcow2', path, writable && i === layers.length - 1), backing: below };
  }
  return `json:${JSON.stringify(below)}`;
}

/** A layer over others, as a guest leaves it after these commands of qemu-io. */
async function written(name: string, below: readonly string[], commands: string[]): Promise<string> {
  const dir = join(root, name);
  mkdirSync(dir);
  await disks.create({ id: name, dir, uid, sizeBytes }, stateOf(below));
  const path = join(dir, 'rootfs.qcow2');
  execFileSync('qemu-io', [...commands.flatMap((one) => ['-c', one]), chain([...below, path], true)]);
  await disks.settle(path);
  return path;
}

function emptyDirectory(name: string): string {
  const dir = join(root, name);
  mkdirSync(dir, { mode: 0o700 });
  chownSync(dir, uid, uid);
  return dir;
}

const isRoot = process.getuid?.() === 0;
const admit = async () => {};

test.runIf(isRoot)('merged layers are byte by byte the disk that the chain was, and no larger', async () => {
  const layers: string[] = [];
  // Past the end of the base, over it, zeros over data, discarded data, a part of a cluster.
  for (const commands of [
    ['write -P 1 0 1M', 'write -P 2 10M 5M', 'write -P 3 100M 3M', 'write -P 7 200M 8M'],
    ['write -P 0 512k 256k', 'write -P 9 12345k 3k', 'discard 200M 8M', 'write -P 5 20M 4M'],
    ['write -z -u 30M 2M', 'write -P 4 255M 1M', 'write -P 8 100M 1M', 'write -P 6 10M 512'],
    [],
  ]) {
    layers.push(await written(`layer-${layers.length}`, layers, commands));
  }
  const dir = emptyDirectory('merged');
  const merged = await disks.merge(stateOf(layers), { dir, uid, sizeBytes, timeoutMs: 60_000, admit });
  const { uid: owner, mode, blocks } = statSync(merged);
  expect({ owner, mode: mode & 0o777 }).toEqual({ owner: 0, mode: 0o444 });
  const said = execFileSync('qemu-img', ['compare', chain(layers), chain([merged])], { encoding: 'utf8' });
  expect(said).toContain('Images are identical');
  // The bytes that are set at the end, and their tables: neither the base nor what was discarded.
  expect(blocks * 512).toBeLessThan(15 * MiB);
  execFileSync('qemu-img', ['check', '-q', '-f', 'qcow2', merged], { cwd: dir });
});

test.runIf(isRoot)('a layer that is none, or names others, gets nothing of them', async () => {
  const bad = join(root, 'bad.qcow2');
  writeFileSync(bad, 'no qcow2', { mode: 0o444 });
  const tool = { uid, sizeBytes, timeoutMs: 60_000, admit };
  const failed = disks.merge(stateOf([bad]), { ...tool, dir: emptyDirectory('bad') });
  await expect(failed).rejects.toThrow(/cannot be measured \(exit code 1\)/);
  const secret = join(root, 'secret.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', secret, `${sizeBytes}`]);
  execFileSync('qemu-io', ['-c', 'write -P 66 0 1M', secret]);
  const names = join(root, 'names.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', secret, '-F', 'qcow2', names]);
  chmodSync(names, 0o444);
  const merged = await disks.merge(stateOf([names]), { ...tool, dir: emptyDirectory('names') });
  const read = execFileSync('qemu-io', ['-c', 'read -P 98 0 1', '-r', chain([merged])], { encoding: 'utf8' });
  expect(read).not.toContain('failed');
});

test.runIf(isRoot)('a disk that is full is told from other failures of the tool', async () => {
  const spec = { dir: emptyDirectory('full'), uid, sizeBytes, timeoutMs: 60_000, admit };
  const fill = ['dd', 'if=/dev/zero', 'of=/dev/full', 'count=1'];
  await expect(runQemuImg(spec, MiB, 'merged', fill)).rejects.toMatchObject({ code: 'ENOSPC' });
});

test.runIf(isRoot)('a tool that writes more than it may says how much that was', async () => {
  const spec = { dir: emptyDirectory('too-much'), uid, sizeBytes, timeoutMs: 60_000, admit };
  const fill = ['dd', 'if=/dev/zero', 'of=much', 'bs=1M', 'count=2'];
  const more = runQemuImg(spec, MiB, 'merged', fill);
  await expect(more).rejects.toThrow(`cannot be merged: its tool was to write no more than ${MiB} bytes`);
});

test.runIf(isRoot)('a merge that is given up leaves no process', async () => {
  const layer = await written('long', [], ['write -P 1 0 200M']);
  const giveUp = new AbortController();
  const tool = { uid, sizeBytes, timeoutMs: 60_000, admit, signal: giveUp.signal };
  const merging = expect(
    disks.merge(stateOf([layer]), { ...tool, dir: emptyDirectory('given-up') }),
  ).rejects.toThrow('enough');
  await expect.poll(() => processesOfUid(uid).length, { interval: 1, timeout: 30_000 }).toBeGreaterThan(0);
  giveUp.abort(new Error('enough'));
  await merging;
  expect(processesOfUid(uid)).toEqual([]);
});

test.runIf(isRoot)('a tool that is given up right before it is started is not waited for', async () => {
  const giveUp = new AbortController();
  const spec = { dir: emptyDirectory('too-late'), uid, sizeBytes, timeoutMs: 60_000, admit };
  const running = runQemuImg({ ...spec, signal: giveUp.signal }, MiB, 'merged', ['sleep', '60']);
  giveUp.abort(new Error('enough'));
  await expect(running).rejects.toThrow('enough');
  expect(processesOfUid(uid)).toEqual([]);
});
