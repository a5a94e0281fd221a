import { mkdtempDisposable, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { PerchError } from '@perch/protocol';
import type { Perch } from '@perch/sdk';
import { expect, test } from 'vitest';
import { type CopyOptions, copy } from './copy.ts';

const options: CopyOptions = {
  ...{ showProgress: false, recursive: false, signal: new AbortController().signal },
  leftOut: () => {},
  leftBehind: () => {},
  untimed: () => {},
};

/** A sandbox with the directory `dir` and the file `file`, which tells where it was written to. */
function sandbox() {
  const written: string[] = [];
  const files = {
    async stat(_id: string, path: string) {
      const types: Record<string, string> = { dir: 'directory', '/dir': 'directory', file: 'file' };
      const type = types[path];
      if (type) return { type };
      throw new PerchError('file_not_found', `${path} does not exist.`, { path });
    },
    async write(_id: string, path: string, content: AsyncIterable<Uint8Array>) {
      await buffer(content);
      written.push(path);
    },
  };
  return { written, perch: { sandboxes: { files } } as unknown as Perch };
}

test.each([
  ['', 'name'],
  ['dir', 'dir/name'],
  ['/dir', '/dir/name'],
  ['dir/', 'dir/name'],
  ['new/', 'new/name'],
  ['file', 'file'],
  ['new', 'new'],
])('a file that goes to ID:%s is written to %s', async (path, target) => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-copy-'));
  await writeFile(join(dir.path, 'name'), 'content');
  const { perch, written } = sandbox();
  const source = { kind: 'file', path: join(dir.path, 'name') } as const;
  const copied = await copy(perch, source, { kind: 'sandbox', id: 'sb', path }, options);
  expect([written, copied.destination]).toEqual([[target], `sb:${target}`]);
});

test.each(['', 'dir', 'new/'])('standard input has no name in the directory ID:%s', async (path) => {
  const { perch, written } = sandbox();
  const copied = copy(perch, { kind: 'standard' }, { kind: 'sandbox', id: 'sb', path }, options);
  await expect(copied).rejects.toThrow('Standard input has no name.');
  expect(written).toEqual([]);
});

test.each(['agent_too_old', 'route_not_found'] as const)(
  'a directory comes file by file where its archive is %s',
  async (code) => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-copy-'));
    const time = '2001-02-03T04:05:06Z';
    const about = { mode: 0o755, modified_at: time };
    const files = {
      stat: async () => ({ type: 'directory', ...about }),
      archive: async () => {
        throw new PerchError(code, 'It is older.', { id: 'sb', method: 'GET', path: '/' });
      },
      async *all() {
        yield { name: 'file', type: 'file', ...about };
      },
      download: async () => ({ stream: new Blob(['content']).stream(), size: 7, ...about }),
    };
    const execStream = async () => ({
      async *[Symbol.asyncIterator]() {},
      async [Symbol.asyncDispose]() {},
    });
    const perch = { sandboxes: { files, execStream } } as unknown as Perch;
    const to = join(dir.path, 'to');
    const source = { kind: 'sandbox', id: 'sb', path: 'dir' } as const;
    const copied = await copy(perch, source, { kind: 'file', path: to }, { ...options, recursive: true });
    expect(copied).toEqual({ destination: to, bytes: 7 });
    expect(await readFile(join(to, 'file'), 'utf8')).toBe('content');
  },
);

test('an archive that is not unpacked, since something is there, is given up', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-copy-'));
  let cancelled = false;
  const cancel = () => {
    cancelled = true;
  };
  const files = {
    stat: async () => ({ type: 'directory', mode: 0o755, modified_at: '2001-02-03T04:05:06Z' }),
    archive: async () => new ReadableStream({ cancel }),
  };
  const perch = { sandboxes: { files } } as unknown as Perch;
  await writeFile(join(dir.path, 'to'), 'mine');
  const source = { kind: 'sandbox', id: 'sb', path: 'dir' } as const;
  const copied = copy(
    perch,
    source,
    { kind: 'file', path: join(dir.path, 'to') },
    { ...options, recursive: true },
  );
  await expect(copied).rejects.toThrow('to is there already');
  expect(cancelled).toBe(true);
});
