import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  lchown,
  mkdir,
  mkdtempDisposable,
  readdir,
  readFile,
  readlink,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecEvent, ExecStream } from '@perch/sdk';
import { expect, test, vi } from 'vitest';
import { type SendOptions, sendTree } from './tree-in.ts';

/** Of a sandbox: what happens to that of this process is nothing to it. */
const env = { ...process.env };

/** The user of the sandbox is an ordinary one: for root, no directory is read-only. */
const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};

interface Watch {
  /** Told that input waits for a command that does not read. */
  full: () => void;
  /** Told of the end of the input. */
  closed: () => void;
}

/** A sandbox whose commands are processes of this machine, in a directory that is its user's home. */
function sandboxIn(home: string, watch: Watch, path = env.PATH): SendOptions['perch'] {
  const how = { cwd: home, env: { ...env, PATH: path }, stdio: 'pipe', detached: true, ...user } as const;
  return {
    sandboxes: {
      execStream: async (_id, { cmd, args = [] }) =>
        streamOf(spawn(cmd, args, how), watch) as unknown as ExecStream,
    },
  };
}

function streamOf(child: ChildProcess, watch: Watch) {
  const { stdin, stdout, stderr, pid } = child;
  const exit = once(child, 'close') as Promise<[number | null]>;
  const events: ExecEvent[] = [];
  stdout?.on('data', (data: Buffer) => events.push({ type: 'stdout', data, text: undefined }));
  stderr?.on('data', (data: Buffer) => events.push({ type: 'stderr', data, text: undefined }));
  stdin?.on('error', () => {});
  return {
    async write(data: Uint8Array) {
      // Input after the end of the command is lost, as in a pipe.
      const drained = () => once(stdin as never, 'drain').catch(() => exit);
      if (stdin?.write(data)) return;
      watch.full();
      await Promise.race([drained(), exit]);
    },
    async closeStdin() {
      stdin?.end();
      watch.closed();
    },
    async stop() {
      if (child.exitCode === null && child.signalCode === null) process.kill(-Number(pid), 'SIGKILL');
    },
    close() {},
    async *[Symbol.asyncIterator](): AsyncGenerator<ExecEvent> {
      const [code] = await exit;
      yield* events;
      yield { type: 'exit', exit_code: code ?? 137 };
    },
  };
}

/** A directory to send, `from`, and the home that it goes to. */
async function place() {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-tree-'));
  await chmod(dir.path, 0o755);
  const [from, home] = [join(dir.path, 'from'), join(dir.path, 'home')];
  await mkdir(join(from, 'sub'), { recursive: true });
  await mkdir(home);
  await writeFile(join(from, 'sub/file'), 'new');
  await symlink('sub/file', join(from, 'link'));
  await utimes(from, 0, 981_173_106);
  const leftBehind: string[] = [];
  const untimed: string[] = [];
  const abort = new AbortController();
  const watch: Watch = { full: () => {}, closed: () => {} };
  const options: SendOptions = {
    ...{ perch: sandboxIn(home, watch), id: 'sb', signal: abort.signal },
    through: (content) => content,
    leftBehind: (path) => leftBehind.push(path),
    untimed: (path) => untimed.push(path),
  };
  return {
    ...{ from, home, abort, options, watch, untimed },
    async send(to: string, more: Partial<SendOptions> = {}) {
      await giveToUser(home);
      await sendTree({ ...options, ...more }, from, to);
    },
    async [Symbol.asyncDispose]() {
      expect(leftBehind).toEqual([]);
      await dir.remove();
    },
  };
}

async function giveToUser(home: string): Promise<void> {
  const { uid, gid } = user as { uid?: number; gid?: number };
  if (uid === undefined || gid === undefined) return;
  for (const path of ['', ...(await readdir(home, { recursive: true }))])
    await lchown(join(home, path), uid, gid);
}

const largeBytes = 1_000_000;

/** The beginning of an archive, whose rest is lost. It ends within the large file, whatever comes before that. */
async function* beginning(content: AsyncIterable<Uint8Array>, then: () => void) {
  let left = largeBytes / 2;
  for await (const chunk of content) {
    if (left === 0) continue;
    const part = chunk.subarray(0, left);
    left -= part.length;
    yield part;
    if (left === 0) then();
  }
}

test('a directory takes a free name, with the parents that lack', async () => {
  await using here = await place();
  await chmod(here.from, 0o550);
  await here.send('-deep/er/to');
  expect(await readdir(here.home)).toEqual(['-deep']);
  const to = join(here.home, '-deep/er/to');
  expect((await readdir(to)).sort()).toEqual(['link', 'sub']);
  expect(await readFile(join(to, 'sub/file'), 'utf8')).toBe('new');
  expect(await readlink(join(to, 'link'))).toBe('sub/file');
  const { mode, mtimeMs } = await stat(to);
  expect([mode & 0o777, mtimeMs]).toEqual([0o550, 981_173_106_000]);
});

test('what has a time that the disk of a sandbox has not is told', async () => {
  await using here = await place();
  const file = join(here.from, 'sub/file');
  // A file system of this machine may have no such time either.
  await utimes(file, 0, 16_000_000_000);
  const isThere = (await stat(file)).mtimeMs === 16e12;
  await here.send('to');
  expect(here.untimed).toEqual(isThere ? [file] : []);
});

test('a directory joins one that is there', async () => {
  await using here = await place();
  const to = join(here.home, 'to');
  await mkdir(join(to, 'sub'), { recursive: true });
  await writeFile(join(to, 'sub/file'), 'old');
  await writeFile(join(to, 'sub/mine'), 'mine');
  await here.send(to);
  expect((await readdir(to)).sort()).toEqual(['link', 'sub']);
  expect((await readdir(join(to, 'sub'))).sort()).toEqual(['file', 'mine']);
  expect(await readFile(join(to, 'link'), 'utf8')).toBe('new');
  expect(await stat(join(to, 'sub/file'))).toMatchObject({ nlink: 1 });
});

test("a directory that is there keeps its mode, and need not be the user's", async () => {
  await using here = await place();
  const shared = join(here.home, '../shared');
  await mkdir(shared);
  for (const path of ['', 'sub']) {
    await mkdir(join(shared, path), { recursive: true });
    await chmod(join(shared, path), 0o1777);
  }
  await here.send(shared);
  await here.send(shared);
  expect((await readdir(shared, { recursive: true })).sort()).toEqual(['link', 'sub', 'sub/file']);
  for (const path of ['', 'sub']) expect((await stat(join(shared, path))).mode & 0o7777).toBe(0o1777);
});

test('a tree with directories that nobody may write is copied again', async () => {
  await using here = await place();
  for (const path of ['sub', '']) await chmod(join(here.from, path), 0o555);
  await here.send('to');
  await writeFile(join(here.from, 'sub/file'), 'newer');
  await here.send('to');
  expect(await readdir(here.home, { recursive: true })).toEqual(['to', 'to/link', 'to/sub', 'to/sub/file']);
  expect(await readFile(join(here.home, 'to/sub/file'), 'utf8')).toBe('newer');
  for (const path of ['to', 'to/sub']) expect((await stat(join(here.home, path))).mode & 0o777).toBe(0o555);
});

test('a file that joins a directory keeps its mode, below a directory that nobody may write, too', async () => {
  await using here = await place();
  await mkdir(join(here.home, 'to'));
  await chmod(join(here.from, 'sub/file'), 0o440);
  await chmod(join(here.from, 'sub'), 0o550);
  await here.send('to');
  const modeOf = async (path: string) => (await stat(join(here.home, path))).mode & 0o777;
  expect([await modeOf('to/sub'), await modeOf('to/sub/file')]).toEqual([0o550, 0o440]);
});

test('a directory joins one that a link names', async () => {
  await using here = await place();
  await mkdir(join(here.home, 'there'));
  await symlink('there', join(here.home, 'to'));
  await here.send('to');
  expect((await readdir(here.home)).sort()).toEqual(['there', 'to']);
  expect((await readdir(join(here.home, 'there'))).sort()).toEqual(['link', 'sub']);
  expect(await readlink(join(here.home, 'to'))).toBe('there');
});

test.each<[string, (to: string) => Promise<unknown>, RegExp]>([
  [
    'a file in the place of a directory',
    (to) => writeFile(join(to, 'sub'), ''),
    /sub is there.*no directory/,
  ],
  [
    'a link in the place of a directory',
    (to) => symlink('nowhere', join(to, 'sub')),
    /sub is there.*no directory/,
  ],
  ['a directory in the place of a link', (to) => mkdir(join(to, 'link')), /link is there.*a directory/],
  // Shut for everybody: as root, by its owner as well.
  [
    'a directory that lets nobody in',
    async (to) => {
      await mkdir(join(to, 'sub'));
      await chmod(join(to, 'sub'), 0);
    },
    /sub may not be written/,
  ],
  ['a file that is to be a directory', (to) => writeFile(join(to, '../file'), ''), /no directory/],
])('%s is refused, and nothing changes', async (_, prepare, message) => {
  await using here = await place();
  const to = join(here.home, 'to');
  await mkdir(to);
  await prepare(to);
  const before = await readdir(here.home, { recursive: true });
  const target = before.includes('file') ? 'file/to' : 'to';
  await expect(here.send(target)).rejects.toThrow(message);
  expect(await readdir(here.home, { recursive: true })).toEqual(before);
});

test('an archive that is cut short leaves nothing, parents neither', async () => {
  await using here = await place();
  await writeFile(join(here.from, 'large'), Buffer.alloc(largeBytes));
  const through: SendOptions['through'] = (content) => beginning(content, () => {});
  await expect(here.send('deep/to', { through })).rejects.toThrow('could not unpack it');
  expect(await readdir(here.home)).toEqual([]);
});

test('a name that cannot be leaves nothing, parents neither', async () => {
  await using here = await place();
  await mkdir(join(here.home, 'empty'));
  await expect(here.send(`empty/deep/er/${'x'.repeat(256)}`)).rejects.toThrow('could not unpack it');
  expect(await readdir(here.home, { recursive: true })).toEqual(['empty']);
});

test('a part of the tree that cannot be packed leaves nothing', async () => {
  await using here = await place();
  await expect(sendTree(here.options, join(here.from, 'missing'), 'to')).rejects.toThrow(/packed|unpack/);
  expect(await readdir(here.home)).toEqual([]);
});

test('a machine without tar is told so, and nothing is left', async () => {
  await using here = await place();
  vi.stubEnv('PATH', here.home);
  try {
    await expect(here.send('to')).rejects.toThrow('tar cannot be started');
  } finally {
    vi.unstubAllEnvs();
  }
  expect(await readdir(here.home)).toEqual([]);
});

test('a copy that is broken off leaves nothing, in a directory that is there neither', async () => {
  for (const to of ['to', 'there']) {
    await using here = await place();
    await mkdir(join(here.home, 'there'));
    await writeFile(join(here.from, 'large'), Buffer.alloc(largeBytes));
    const through: SendOptions['through'] = (content) =>
      beginning(content, () => here.abort.abort(new Error('enough')));
    await expect(here.send(to, { through })).rejects.toThrow();
    expect(await readdir(here.home, { recursive: true })).toEqual(['there']);
  }
});

test.each<[string, string, keyof Watch]>([
  ['reads nothing', 'exec sleep 3600', 'full'],
  ['does not end', 'cat >/dev/null; exec sleep 3600', 'closed'],
])('a copy is broken off at once while the sandbox %s, and nothing is left', async (_, tar, when) => {
  await using here = await place();
  await writeFile(join(here.from, 'large'), Buffer.alloc(largeBytes));
  const bin = join(here.home, '../bin');
  await mkdir(bin);
  await writeFile(join(bin, 'tar'), `#!/bin/sh\n${tar}\n`);
  await chmod(join(bin, 'tar'), 0o755);
  const enough = new Error('enough');
  here.watch[when] = () => here.abort.abort(enough);
  const perch = sandboxIn(here.home, here.watch, `${bin}:${env.PATH}`);
  await expect(here.send('to', { perch })).rejects.toBe(enough);
  expect(await readdir(here.home)).toEqual([]);
});
