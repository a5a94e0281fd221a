import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
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

/** A sandbox whose commands are processes of this machine, in a directory that is its user's home. */
function sandboxIn(home: string): SendOptions['perch'] {
  return {
    sandboxes: {
      execStream: async (_id, { cmd, args = [] }) =>
        streamOf(
          spawn(cmd, args, { cwd: home, env, stdio: 'pipe', detached: true }),
        ) as unknown as ExecStream,
    },
  };
}

function streamOf(child: ChildProcess) {
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
      if (!stdin?.write(data)) await Promise.race([drained(), exit]);
    },
    closeStdin: async () => void stdin?.end(),
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
  const [from, home] = [join(dir.path, 'from'), join(dir.path, 'home')];
  await mkdir(join(from, 'sub'), { recursive: true });
  await mkdir(home);
  await writeFile(join(from, 'sub/file'), 'new');
  await symlink('sub/file', join(from, 'link'));
  await utimes(from, 0, 981_173_106);
  const leftBehind: string[] = [];
  const abort = new AbortController();
  const options: SendOptions = {
    ...{ perch: sandboxIn(home), id: 'sb', signal: abort.signal },
    through: (content) => content,
    leftBehind: (path) => leftBehind.push(path),
  };
  return {
    ...{ from, home, abort, options },
    send: (to: string, more: Partial<SendOptions> = {}) => sendTree({ ...options, ...more }, from, to),
    async [Symbol.asyncDispose]() {
      expect(leftBehind).toEqual([]);
      await dir.remove();
    },
  };
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
  expect(await stat(to)).toMatchObject({ mtimeMs: 981_173_106_000 });
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
