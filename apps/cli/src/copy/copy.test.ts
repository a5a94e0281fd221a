import { mkdtempDisposable, writeFile } from 'node:fs/promises';
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
