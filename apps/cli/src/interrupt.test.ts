/** Calls that a signal breaks off, against a server that sends a part and then nothing. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { watch } from 'node:fs';
import { mkdtempDisposable, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { serve } from './testing.ts';

const main = join(import.meta.dirname, '../bin/perch.mjs');
const id = 'sb0123456789abcdefgh';

function start(cwd: string, url: string, args: string[]) {
  const child = spawn(process.execPath, [main, ...args], {
    cwd,
    env: { PATH: process.env.PATH, HOME: '/nonexistent', PERCH_URL: url, PERCH_API_KEY: 'perch_x' },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.on('error', () => {});
  const ended = Promise.all([text(child.stderr), once(child, 'close') as Promise<[number | null]>]);
  return { child, ended: ended.then(([stderr, [code]]) => ({ code, stderr })) };
}

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('a file that %s breaks off leaves what was there, and nothing else', async (signal, code) => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-interrupt-'));
  await writeFile(join(dir.path, 'file'), 'before');
  await using from = await serve((_request, response) => {
    response.writeHead(200, { 'content-length': 10 }).write('half!');
  });
  const watcher = watch(dir.path);
  const begun = once(watcher, 'change');
  const { child, ended } = start(dir.path, from.url, ['cp', `${id}:/file`, 'file']);
  await begun;
  watcher.close();
  expect(await readdir(dir.path)).toHaveLength(2);
  child.kill(signal);
  expect(await ended).toEqual({ code, stderr: expect.stringContaining(`Interrupted by ${signal}`) });
  expect(await readdir(dir.path)).toEqual(['file']);
  expect(await readFile(join(dir.path, 'file'), 'utf8')).toBe('before');
});

test('an upload that is broken off has no end, so that the sandbox drops it', async () => {
  const [begun, cut] = [Promise.withResolvers<void>(), Promise.withResolvers<boolean>()];
  await using to = await serve((request, response) => {
    if (request.method === 'GET') {
      const error = { code: 'file_not_found', message: 'There is no /file.', details: { path: '/file' } };
      response.writeHead(404, { 'content-type': 'application/json' }).end(JSON.stringify({ error }));
      return;
    }
    request.once('data', () => begun.resolve()).on('error', () => {});
    request.once('close', () => cut.resolve(!request.complete));
  });
  const { child, ended } = start('/', to.url, ['cp', '-', `${id}:/file`]);
  child.stdin.write('half!');
  await begun.promise;
  child.kill('SIGINT');
  expect(await cut.promise).toBe(true);
  expect(await ended).toMatchObject({ code: 130 });
});

test('a create that is broken off leaves no sandbox', async () => {
  const begun = Promise.withResolvers<void>();
  const asked: string[] = [];
  const keys = new Set<unknown>();
  await using perch = await serve((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    if (request.method === 'DELETE') return void response.writeHead(204).end();
    keys.add(request.headers['idempotency-key']);
    if (asked.length === 1) return begun.resolve();
    response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify({ id }));
  });
  const { child, ended } = start('/', perch.url, ['create']);
  await begun.promise;
  child.kill('SIGINT');
  expect(await ended).toMatchObject({ code: 130 });
  expect(asked).toEqual(['POST /v1/sandboxes', 'POST /v1/sandboxes', `DELETE /v1/sandboxes/${id}`]);
  expect(keys.size).toBe(1);
});
