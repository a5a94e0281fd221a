import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { dataPaths } from '@perch/protocol';
import { expect, test } from 'vitest';
import { earlierDaemonsEnded } from './earlier-daemons.ts';

async function dataDir(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'perch-test-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

/** A process that runs from a file of the data directory until its input ends. */
async function daemon(dataDir: string, file = 'abc/node'): Promise<ChildProcess & AsyncDisposable> {
  const program = join(dataPaths(dataDir).bin, file);
  await mkdir(dirname(program), { recursive: true });
  await copyFile('/bin/cat', program);
  await chmod(program, 0o755);
  const child = spawn(program, { stdio: ['pipe', 'ignore', 'ignore'] });
  await once(child, 'spawn');
  return Object.assign(child, {
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null) return;
      child.stdin?.end();
      await once(child, 'exit');
    },
  });
}

test('without any there is nothing to wait for', async () => {
  await using dir = await dataDir();
  expect(await earlierDaemonsEnded(dir.path)).toEqual([]);
});

test('one that ends is waited for', async () => {
  await using dir = await dataDir();
  await using ending = await daemon(dir.path);
  const ended = earlierDaemonsEnded(dir.path);
  ending.stdin?.end();
  expect(await ended).toEqual([{ pid: ending.pid, name: 'node' }]);
  await expect(earlierDaemonsEnded(dir.path, 0)).resolves.toEqual([]);
});

test('one that does not end is named, with the line that ends it', async () => {
  await using dir = await dataDir();
  await using stuck = await daemon(dir.path);
  await expect(earlierDaemonsEnded(dir.path, 0)).rejects.toMatchObject({
    message: `node (pid ${stuck.pid}) of an earlier \`perch up\` on ${dir.path} does not end.`,
    remedy: expect.stringMatching(new RegExp(`kill -9 ${stuck.pid}$`)),
  });
});

test('the programs of an upgrade in between are theirs, too', async () => {
  await using dir = await dataDir();
  await using stuck = await daemon(dir.path);
  await rm(dataPaths(dir.path).bin, { recursive: true });
  await expect(earlierDaemonsEnded(dir.path, 0)).rejects.toThrow(`(pid ${stuck.pid})`);
});

test('the database is ended by the next control plane, and other directories are not looked at', async () => {
  await using dir = await dataDir();
  await using other = await dataDir();
  await using _postgres = await daemon(dir.path, 'abc/postgres/bin/postgres');
  await using _elsewhere = await daemon(other.path);
  expect(await earlierDaemonsEnded(dir.path, 0)).toEqual([]);
});
