import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { isAlive, parseStatusUid, readProcess, worksIn } from './process.ts';
import { peerOf, signalProcess } from './process-signal.ts';
import { measureTscKhz } from './tsc.ts';

test('the user of a process is the effective one', () => {
  expect(parseStatusUid('Name:\tUid:\nUid:\t1\t22\t3\t4\nGid:\t5\t5\t5\t5\n')).toBe(22);
  expect(parseStatusUid('Name:\tx\n')).toBeUndefined();
});

describe('a process', () => {
  test('is known by its start time, and gone once it has ended', async () => {
    const child = spawn('sleep', ['60'], { stdio: 'ignore', cwd: '/tmp' });
    const ended = once(child, 'exit');
    const info = readProcess(child.pid ?? 0);
    if (!info) throw new Error('no such process');
    expect(info).toMatchObject({ parent: process.pid, uid: process.getuid?.() });
    expect(['/tmp', '/tmp/..', '/nonexistent'].map((dir) => worksIn(info.pid, dir))).toEqual([
      true,
      false,
      false,
    ]);
    expect(isAlive({ ...info, startTime: info.startTime + 1 })).toBe(false);
    expect(signalProcess({ ...info, startTime: info.startTime - 1 }, 9)).toBe(false);
    expect(isAlive(info)).toBe(true);
    expect(signalProcess(info, 9)).toBe(true);
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect([isAlive(info), signalProcess(info, 9), worksIn(info.pid, '/tmp')]).toEqual([false, false, false]);
  });

  test('that ended and was not reaped is gone', async () => {
    // The shell starts a child and becomes a program that never waits for it. Only then may the child end.
    const parent = spawn('sh', ['-c', 'read end <&3 & echo $!; exec sleep 60 3<&-'], {
      stdio: ['ignore', 'pipe', 'ignore', 'pipe'],
    });
    const [output] = await once(parent.stdout as Readable, 'data');
    const pid = Number(output);
    const program = () => readFileSync(`/proc/${parent.pid}/comm`, 'utf8');
    await expect.poll(program).toBe('sleep\n');
    (parent.stdio[3] as Writable).end('\n');
    await expect.poll(() => readProcess(pid)?.state).toBe('Z');
    expect(isAlive({ pid, startTime: readProcess(pid)?.startTime ?? 0 })).toBe(false);
    parent.kill('SIGKILL');
    await once(parent, 'exit');
  });
});

test('the peer of a unix socket is the process that listens, and the one that connected', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'perch-peer-'));
  const server = createServer().listen(join(dir, 's'));
  await once(server, 'listening');
  const accepting = once(server, 'connection');
  const socket = connect(join(dir, 's'));
  await once(socket, 'connect');
  const [accepted] = (await accepting) as [Socket];
  const self = { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() };
  expect(peerOf(socket)).toEqual(self);
  expect(peerOf(accepted)).toEqual(self);
  socket.destroy();
  expect(() => peerOf(socket)).toThrow('no descriptor');
  server.close();
  rmSync(dir, { recursive: true });
});

test.runIf(process.arch === 'x64')(
  'the time stamp counter is measured to 20 parts in a million',
  async () => {
    const [first, second] = [await measureTscKhz(), await measureTscKhz()];
    if (first === undefined || second === undefined) throw new Error('not measured');
    expect(Math.abs(first - second) / first).toBeLessThan(20e-6);
  },
);
