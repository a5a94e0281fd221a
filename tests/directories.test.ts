/** Directories of a sandbox: made, listed, moved, removed. */
import { beforeAll, expect, test } from 'vitest';
import type { FileList } from '../packages/protocol/src/index.ts';
import { type RestInit, refusal, rest } from './setup/rest.ts';
import { newSandbox, sh, sharedPerch } from './setup/sandbox.ts';

const perch = sharedPerch();
const { files } = perch.sandboxes;

let id: string;
beforeAll(async () => {
  const sandbox = await newSandbox(perch);
  ({ id } = sandbox);
  return () => sandbox[Symbol.asyncDispose]();
});

const ask = (path: string, init?: RestInit) => rest(`/v1/sandboxes/${id}/files${path}`, init);
const query = (path: string) => `?path=${encodeURIComponent(path)}`;
const inGuest = (line: string) => sh(perch, id, line);

test('directories are made, listed, moved and removed', async () => {
  await files.mkdir(id, 'tree/a/b');
  await files.write(id, 'tree/file.txt', 'text');
  await inGuest('chmod 640 tree/file.txt; ln -s file.txt tree/link; mkfifo tree/pipe; touch tree/.hidden');
  const answer = await ask(query('tree'));
  expect(answer.status).toBe(200);
  const { items } = (await answer.json()) as FileList;
  const entry = (name: string, more: object) =>
    expect.objectContaining({ name, path: `/home/user/tree/${name}`, owner: 'user', group: 'user', ...more });
  expect(items).toEqual([
    entry('.hidden', { type: 'file', size: 0 }),
    entry('a', { type: 'directory' }),
    entry('file.txt', {
      type: 'file',
      size: 4,
      mode: 0o640,
      permissions: '-rw-r-----',
      modified_at: expect.stringMatching(/^\d{4}-/),
    }),
    entry('link', { type: 'file', symlink_target: expect.stringMatching(/file\.txt$/) }),
    entry('pipe', { type: 'other' }),
  ]);
  await files.move(id, 'tree/file.txt', 'tree/new/place/moved.txt');
  expect(await files.readText(id, 'tree/new/place/moved.txt')).toBe('text');
  await files.move(id, 'tree/a', 'tree/c');
  await files.remove(id, 'tree/link');
  await files.remove(id, 'tree/c');
  expect((await files.list(id, 'tree')).items.map(({ name }) => name)).toEqual(['.hidden', 'new', 'pipe']);
  await files.remove(id, 'tree');
  // A missing directory needs no removal.
  await files.remove(id, 'tree');
  expect(await inGuest('ls -d tree || echo gone')).toBe('gone\n');
  expect(await files.list(id, '/home')).toEqual({
    items: [entry('user', { path: '/home/user', type: 'directory' })],
    next_cursor: null,
  });
});

test('what cannot be done with a path says why', async () => {
  await inGuest('mkdir -p errors/full/of && echo x > errors/file');
  const calls: [string, () => Promise<Response>, number, string][] = [
    ['list a missing directory', () => ask(query('errors/missing')), 404, 'file_not_found'],
    ['list a file', () => ask(query('errors/file')), 400, 'not_a_directory'],
    ['list without a path', () => ask(''), 400, 'validation_failed'],
    ['make what is there', () => ask('/mkdir', { json: { path: 'errors/full' } }), 409, 'file_exists'],
    ['make below a file', () => ask('/mkdir', { json: { path: 'errors/file/x' } }), 400, 'not_a_directory'],
    ['make over a file', () => ask('/mkdir', { json: { path: 'errors/file' } }), 400, 'not_a_directory'],
    [
      'move what is missing',
      () => ask('/move', { json: { source: 'errors/none', destination: 'errors/x' } }),
      404,
      'file_not_found',
    ],
    [
      'move a file over a directory',
      () => ask('/move', { json: { source: 'errors/file', destination: 'errors/full' } }),
      400,
      'not_a_file',
    ],
    ['remove the root', () => ask('/remove', { json: { path: '/' } }), 400, 'validation_failed'],
    [
      'remove of /proc',
      () => ask('/remove', { json: { path: '/proc/self/status' } }),
      403,
      'permission_denied',
    ],
  ];
  for (const [what, call, status, code] of calls) {
    const error = await refusal(await call());
    expect.soft([what, error.status, error.code]).toEqual([what, status, code]);
  }
  expect(await inGuest('cat errors/file; ls errors/full')).toBe('x\nof\n');
});
