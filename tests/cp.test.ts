/** `perch cp` as people and scripts use it. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { CommandLine, end, sha256 } from './setup/command-line.ts';
import { eventually } from './setup/eventually.ts';
import { newSandbox, sh, sharedPerch } from './setup/sandbox.ts';

const perch = sharedPerch();
let id: string;
let dir: string;
let line: CommandLine;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'perch-cp-'));
  line = new CommandLine(dir);
  const sandbox = await newSandbox(perch);
  ({ id } = sandbox);
  return async () => {
    await sandbox[Symbol.asyncDispose]();
    await rm(dir, { recursive: true });
  };
});

const run: CommandLine['run'] = (args, more) => line.run(args, more);
const exec = (...command: string[]) => run(['exec', id, '--', ...command]);
const content = randomBytes(5_000_001);

test('cp copies a file in and out again', async () => {
  const name = 'ünï cödé.bin';
  await writeFile(join(dir, name), content);
  expect(await run(['cp', name, `${id}:`])).toMatchObject({ code: 0, stdout: '', stderr: '' });
  expect((await exec('sha256sum', name)).stdout.slice(0, 64)).toBe(sha256(content));
  expect((await run(['cp', name, `${id}:/tmp/deep/er/`])).code).toBe(0);
  const into = await run(['cp', '--json', name, `${id}:/tmp/deep`]);
  expect(JSON.parse(into.stdout)).toMatchObject({ destination: `${id}:/tmp/deep/${name}` });
  await mkdir(join(dir, 'back'));
  expect((await run(['cp', `${id}:/tmp/deep/er/${name}`, 'back'])).code).toBe(0);
  expect(sha256(await readFile(join(dir, 'back', name)))).toBe(sha256(content));
  expect((await run(['cp', `${id}:${name}`, 'back/other'])).code).toBe(0);
  expect(sha256(await readFile(join(dir, 'back/other')))).toBe(sha256(content));
  const told = await run(['cp', '--json', `${id}:${name}`, 'told']);
  expect(JSON.parse(told.stdout)).toMatchObject({ bytes: content.length, destination: 'told' });
});

test('cp keeps modes and times, either way', async () => {
  const time = 981_173_106;
  await writeFile(join(dir, 'script'), '#!/bin/sh\necho ran\n');
  await writeFile(join(dir, 'secret'), 'secret');
  await chmod(join(dir, 'script'), 0o755);
  await chmod(join(dir, 'secret'), 0o600);
  for (const name of ['script', 'secret']) {
    await utimes(join(dir, name), time, time);
    expect((await run(['cp', name, `${id}:`])).code).toBe(0);
  }
  expect((await exec('./script')).stdout).toBe('ran\n');
  const told = await exec('stat', '-c', '%a %Y', 'script', 'secret');
  expect(told.stdout).toBe(`755 ${time}\n600 ${time}\n`);
  for (const name of ['script', 'secret']) {
    expect((await run(['cp', `${id}:${name}`, `${name}.back`])).code).toBe(0);
    const [before, after] = await Promise.all([name, `${name}.back`].map((one) => stat(join(dir, one))));
    expect([after?.mode, after?.mtimeMs]).toEqual([before?.mode, before?.mtimeMs]);
  }
});

test('cp copies a directory with -r, links as links, either way', async () => {
  const time = 981_173_106;
  await mkdir(join(dir, 'tree/sub/empty'), { recursive: true });
  await writeFile(join(dir, 'tree/sub/run'), '#!/bin/sh\n');
  await chmod(join(dir, 'tree/sub/run'), 0o750);
  await symlink('sub/run', join(dir, 'tree/link'));
  await symlink('/nowhere', join(dir, 'tree/dangling'));
  for (const name of ['sub/run', 'sub', '']) await utimes(join(dir, 'tree', name), time, time);
  const look = String.raw`cd "$1" && find . -printf '%P %y %m %l %Ts\n' | grep -v ' l ' | sort; find . -type l -printf '%P %l\n' | sort`;
  const here = (path: string) => promisify(execFile)('sh', ['-c', look, 'sh', join(dir, path)]);
  const { stdout: before } = await here('tree');
  expect(await run(['cp', '-r', 'tree', `${id}:`])).toMatchObject({ code: 0, stdout: '', stderr: '' });
  expect((await exec('sh', '-c', look, 'sh', 'tree')).stdout).toBe(before);
  expect(await run(['cp', '-r', `${id}:tree/`, 'tree.back'])).toMatchObject({ code: 0, stderr: '' });
  expect((await here('tree.back')).stdout).toBe(before);
  expect(await run(['cp', '-r', `${id}:tree`, 'tree.back/sub'])).toMatchObject({ code: 0, stderr: '' });
  expect((await here('tree.back/sub/tree')).stdout).toBe(before);
  for (const [args, message] of [
    [[`${id}:tree`, 'tree.back/sub'], /tree is there already/],
    [['tree', `${id}:/etc/passwd`], /could not unpack it/],
    [[`${id}:missing`, 'new'], /missing does not exist/],
  ] as const) {
    expect(await run(['cp', '-r', ...args])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(message),
    });
  }
});

test('cp that is broken off in the middle of a directory leaves the sandbox as it was', async () => {
  await mkdir(join(dir, 'bin'));
  await mkdir(join(dir, 'half'));
  await writeFile(join(dir, 'half/a'), 'small');
  await writeFile(join(dir, 'half/large'), content);
  // Packs a half, and is at it for ever.
  const tar = '#!/bin/sh\n/bin/tar "$@" | head -c 2000000; exec sleep 3600\n';
  await writeFile(join(dir, 'bin/tar'), tar, { mode: 0o755 });
  const listed = () => sh(perch, id, 'mkdir -p /tmp/there && ls -A /tmp /tmp/there');
  const before = await listed();
  for (const to of ['/tmp/new/', '/tmp/there']) {
    const path = `${join(dir, 'bin')}:${process.env.PATH}`;
    const child = line.start(['cp', '-r', 'half', `${id}:${to}`], { PATH: path });
    const ended = end(child);
    await eventually(async () => (await listed()) !== before);
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ code: 143, stderr: expect.stringMatching(/Interrupted/) });
    expect(await listed()).toBe(before);
  }
});

test('cp brings many small files out of a sandbox, or none when it is broken off among them', async () => {
  const names = Array.from({ length: 400 }, (_, n) => `${n}`);
  await sh(
    perch,
    id,
    'mkdir -p many/{0..3} && cd many && for n in {0..399}; do echo $n > $((n % 4))/$n; done',
  );
  expect(await run(['cp', '-r', `${id}:many`, 'many'])).toMatchObject({ code: 0, stderr: '' });
  const brought = await readdir(join(dir, 'many'), { recursive: true });
  expect(brought.length).toBe(names.length + 4);
  for (const name of names) {
    expect(await readFile(join(dir, 'many', `${Number(name) % 4}`, name), 'utf8')).toBe(`${name}\n`);
  }
  // What takes long enough to be broken off.
  await sh(perch, id, 'truncate -s 64G many/large');
  const before = await readdir(dir);
  const child = line.start(['cp', '-r', `${id}:many`, 'half.back']);
  const ended = end(child);
  const partial = /^\.half\.back\.perch-[^/]*\/large$/;
  await eventually(async () => {
    return (await readdir(dir, { recursive: true })).some((name) => partial.test(name));
  });
  child.kill('SIGTERM');
  expect(await ended).toMatchObject({ code: 143, stderr: expect.stringMatching(/Interrupted/) });
  expect(await readdir(dir)).toEqual(before);
});

test('cp that breaks off in the sandbox says why, and leaves nothing', async () => {
  // One deeper than the guest agent goes, which finds it when a part has been sent.
  await sh(perch, id, `mkdir -p ${'d/'.repeat(1 + 257)}`);
  const before = await readdir(dir);
  const { code, stderr } = await run(['cp', '-r', `${id}:d`, 'deep']);
  expect([code, await readdir(dir)]).toEqual([1, before]);
  expect(stderr).toMatch(/it lies more than 256 directories deep: \/home\/user\/d\//);
  // Both sides go as deep as each other.
  expect(await run(['cp', '-r', `${id}:d/d`, 'deep'])).toMatchObject({ code: 0, stderr: '' });
});

test('cp tells the first of many things that it leaves out, and counts the others', async () => {
  await sh(perch, id, 'mkdir pipes && cd pipes && mkfifo {1..25} && mkfifo "$(printf "a\\033[2J")"');
  const { code, stderr } = await run(['cp', '-r', `${id}:pipes`, 'pipes']);
  expect([code, await readdir(join(dir, 'pipes'))]).toEqual([0, []]);
  const lines = stderr.trimEnd().split('\n');
  expect(lines).toHaveLength(21);
  expect(lines[20]).toBe('Left out, since it is no file, directory or link: 6 more');
  expect(stderr).not.toContain('\u001b');
});

test('cp copies standard input and to standard output', async () => {
  expect((await run(['cp', '-', `${id}:piped`], { input: content })).code).toBe(0);
  const { code, out } = await run(['cp', `${id}:piped`, '-']);
  expect([code, sha256(out)]).toEqual([0, sha256(content)]);
});

test('cp that fails says why and leaves nothing', async () => {
  await writeFile(join(dir, 'kept'), 'kept');
  const before = await readdir(dir);
  for (const [args, message] of [
    [[`${id}:missing`, 'kept'], /missing does not exist/],
    [[`${id}:/etc`, 'kept'], /is not a regular file/],
    [['missing', `${id}:x`], /missing does not exist/],
    [['.', `${id}:x`], /directory/],
    [['-', `${id}:/etc`], /Standard input has no name/],
    [['kept', `${id}:/dev/null`], /not a regular file/],
    [['kept', 'other'], /Neither end is in a sandbox/],
    [['kept', `sb${'0'.repeat(18)}:x`], /No sandbox/],
  ] as const) {
    const { code, stdout, stderr } = await run(['cp', ...args]);
    expect([args, code, stdout]).toEqual([args, 1, '']);
    expect(stderr).toMatch(message);
    // The second line is what to do about it.
    expect(stderr.trimEnd().split('\n').length).toBeGreaterThan(1);
  }
  expect(await readdir(dir)).toEqual(before);
  expect(await readFile(join(dir, 'kept'), 'utf8')).toBe('kept');
});
