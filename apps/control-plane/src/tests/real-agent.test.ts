/**
 * perchd with the real guest agent, which runs here as an ordinary process. Real VMs are covered by the
 * end-to-end suites.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import type { ErrorBody, ExecResult, FileList } from '@perch/protocol';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually, type TestPlane } from '../testing/index.ts';
import { agentIsBuilt, RealPlane } from '../testing/real-agent.ts';
import { StreamClient } from '../testing/stream-client.ts';

if (!agentIsBuilt) console.warn('skipped: there is no guest agent; `npm run setup` builds it');

describe.skipIf(!agentIsBuilt)('with the real guest agent', () => {
  let real: RealPlane;
  let plane: TestPlane;
  let id: string;
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'perch-test-'));
    real = await RealPlane.start();
    ({ plane, id } = real);
  }, 60_000);
  afterAll(async () => {
    await real[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  });

  const exec = (json: object) => plane.fetch(`/v1/sandboxes/${id}/exec`, { json });
  const result = async (json: object) => (await (await exec(json)).json()) as ExecResult;
  const failure = async (answer: Response) => {
    const { error } = (await answer.json()) as ErrorBody;
    return [answer.status, error.code];
  };
  const files = (path: string, init?: Parameters<TestPlane['fetch']>[1]) =>
    plane.fetch(`/v1/sandboxes/${id}/files${path}`, init);
  const processes = async (marker: string) =>
    (await result({ cmd: 'sh', args: ['-c', `pgrep -fx 'sleep ${marker}' || true`] })).stdout.trim();

  test('a command runs, with its output, stdin and exit code', async () => {
    expect(await result({ cmd: 'sh', args: ['-c', 'cat; echo err >&2; exit 3'], stdin: 'in' })).toMatchObject(
      {
        stdout: 'in',
        stderr: 'err\n',
        exit_code: 3,
      },
    );
    const stdin = 'x'.repeat(3_000_000);
    expect((await result({ cmd: 'wc', args: ['-c'], stdin })).stdout.trim()).toBe('3000000');
    expect(await result({ cmd: 'no-such-command' })).toMatchObject({ exit_code: 127 });
    expect(await result({ cmd: '/etc/passwd' })).toMatchObject({ exit_code: 126 });
    expect(await result({ cmd: 'sh', args: ['-c', 'kill -15 $$'] })).toMatchObject({ exit_code: 143 });
  });

  test('what is wrong with a command is told', async () => {
    expect(await failure(await exec({ cmd: 'true', cwd: '/no/such' }))).toEqual([400, 'invalid_cwd']);
    expect(await failure(await exec({ cmd: 'true', user: 'no-such-user' }))).toEqual([400, 'invalid_user']);
  });

  test('a time-out gives the output so far and kills all of the command', async () => {
    const answer = await exec({
      cmd: 'sh',
      args: ['-c', 'echo a; sleep 987001 & sleep 987001'],
      timeout_sec: 3,
    });
    expect(answer.status).toBe(504);
    expect(await answer.json()).toMatchObject({ error: { details: { stdout: 'a\n' } } });
    await eventually(async () => (await processes('987001')) === '');
  });

  test('a client that goes away ends its command', async () => {
    const gone = new AbortController();
    const json = { cmd: 'sleep', args: ['987002'] };
    const asked = plane.fetch(`/v1/sandboxes/${id}/exec`, { json, signal: gone.signal }).catch(() => {});
    await eventually(async () => (await processes('987002')) !== '');
    gone.abort();
    await asked;
    await eventually(async () => (await processes('987002')) === '');
  });

  test('a stream speaks, listens, is stopped, and outlives its client when detached', async () => {
    const url = `${plane.url}/v1/sandboxes/${id}/exec/stream`;
    const headers = { 'x-api-key': plane.key };
    {
      await using client = await StreamClient.open(url, headers);
      client.send({ type: 'start', cmd: 'cat', stdin: true });
      client.send({ type: 'stdin', data: 'ünï' });
      expect(await client.until((one) => one.type === 'stdout')).toEqual({ type: 'stdout', data: 'ünï' });
      client.send({ type: 'stop' });
      expect((await client.rest()).at(-1)).toEqual({ type: 'exit', exit_code: 137 });
    }
    {
      await using client = await StreamClient.open(url, headers);
      client.send({ type: 'start', cmd: 'sleep', args: ['987003'] });
      await client.until((one) => one.type === 'start');
    }
    await eventually(async () => (await processes('987003')) === '');
    {
      await using client = await StreamClient.open(url, headers);
      client.send({ type: 'start', cmd: 'sleep', args: ['987004'], detach: true });
      await client.until((one) => one.type === 'start');
    }
    await sleep(500);
    expect(await processes('987004')).not.toBe('');
    await result({ cmd: 'pkill', args: ['-fx', 'sleep 987004'] });
  });

  test('files go in and out unchanged, by form and by stream', async () => {
    const content = randomBytes(5_000_000);
    const path = join(dir, 'a.bin');
    for (const order of [
      ['path', 'file'],
      ['file', 'path'],
    ]) {
      const form = new FormData();
      for (const name of order) {
        if (name === 'path') form.append('path', path);
        else form.append('file', new Blob([content]), 'x');
      }
      expect((await files('/write', { method: 'POST', body: form })).status).toBe(204);
      const read = Buffer.from(await (await files('/read', { json: { path } })).arrayBuffer());
      expect(read.equals(content)).toBe(true);
      await rm(path);
    }
    const query = `?path=${encodeURIComponent(path)}`;
    expect((await files(`/stream/write${query}`, { method: 'POST', body: content })).status).toBe(204);
    const read = Buffer.from(await (await files(`/stream/read${query}`)).arrayBuffer());
    expect(read.equals(content)).toBe(true);
    expect((await files(`/stream/write${query}`, { method: 'POST' })).status).toBe(204);
    expect((await files(`/stream/read${query}`)).headers.get('content-length')).toBe('0');
  });

  test('mode and time go in and out with a file, and one that is written over keeps its mode', async () => {
    const path = join(dir, 'script');
    const query = `?path=${encodeURIComponent(path)}`;
    const mtime = '2001-02-03T04:05:06.789012345Z';
    const write = (more: string) => files(`/stream/write${query}${more}`, { method: 'POST', body: 'x' });
    expect((await write(`&mode=0750&mtime=${mtime}`)).status).toBe(204);
    const read = await files(`/stream/read${query}`);
    expect([read.headers.get('perch-mode'), read.headers.get('perch-mtime')]).toEqual(['0750', mtime]);
    await read.arrayBuffer();
    const described = await (await files(`/stat${query}`)).json();
    expect(described).toMatchObject({ path, type: 'file', size: 1, mode: 0o750, modified_at: mtime });
    expect((await write('')).status).toBe(204);
    expect(await (await files(`/stat${query}`)).json()).toMatchObject({ mode: 0o750 });
    for (const wrong of ['&mode=4755', '&mode=999', '&mtime=yesterday', '&mtime=2001-13-03T04:05:06Z']) {
      expect(await failure(await write(wrong))).toEqual([400, 'validation_failed']);
    }
    expect(await failure(await files('/stat?path=/no/such'))).toEqual([404, 'file_not_found']);
  });

  test('an upload that is compressed is unpacked, and one of another encoding refused', async () => {
    const path = join(dir, 'unpacked');
    const write = (encoding: string, body: Buffer) =>
      files(`/stream/write?path=${encodeURIComponent(path)}`, {
        method: 'POST',
        headers: { 'content-encoding': encoding },
        body,
      });
    const content = Buffer.alloc(1_000_000, 'abc');
    expect((await write('gzip', gzipSync(content))).status).toBe(204);
    expect(content.equals(await readFile(path))).toBe(true);
    for (const encoding of ['GZIP', 'x-gzip', 'identity, gzip']) {
      const members = Buffer.concat([gzipSync(encoding), gzipSync(' twice')]);
      expect((await write(encoding, members)).status).toBe(204);
      expect(await readFile(path, 'utf8')).toBe(`${encoding} twice`);
    }
    expect((await write('gzip', gzipSync(content))).status).toBe(204);
    expect(await failure(await write('gzip', Buffer.from('not gzip')))).toEqual([400, 'malformed_body']);
    for (const encoding of ['br', 'gzip, gzip']) {
      const refused = await write(encoding, content);
      expect(refused.headers.get('accept-encoding')).toBe('gzip');
      expect(await failure(refused)).toEqual([415, 'unsupported_media_type']);
    }
    const headers = { 'content-type': 'multipart/form-data; boundary=b', 'content-encoding': 'gzip' };
    expect(
      await failure(await files('/write', { method: 'POST', headers, body: gzipSync('--b--') })),
    ).toEqual([415, 'unsupported_media_type']);
    expect(content.equals(await readFile(path))).toBe(true);
  });

  test('a form that breaks off is the sender’s error and leaves nothing', async () => {
    const path = join(dir, 'broken');
    const body = `--b\r\ncontent-disposition: form-data; name="path"\r\n\r\n${path}\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nhalf`;
    const headers = { 'content-type': 'multipart/form-data; boundary=b' };
    expect(await failure(await files('/write', { method: 'POST', headers, body }))).toEqual([
      400,
      'malformed_body',
    ]);
    expect((await readdir(dir)).filter((name) => name.includes('broken'))).toEqual([]);
  });

  test('what cannot be read or written says why', async () => {
    const read = async (path: string) => failure(await files('/read', { json: { path } }));
    expect(await read('/no/such')).toEqual([404, 'file_not_found']);
    expect(await read(dir)).toEqual([400, 'not_a_file']);
    expect(await read('/dev/zero')).toEqual([400, 'not_a_file']);
    const write = async (path: string) =>
      failure(await files(`/stream/write?path=${encodeURIComponent(path)}`, { method: 'POST', body: 'x' }));
    expect(await write(dir)).toEqual([400, 'not_a_file']);
    expect(await write('/dev/null')).toEqual([400, 'not_a_file']);
  });

  test('files that state another size than they have are read, and one that cannot be read says why', async () => {
    const path = '/sys/class/net/lo/mtu';
    const read = await files('/read', { json: { path } });
    expect([read.status, await read.text()]).toEqual([200, await readFile(path, 'utf8')]);
    expect(await failure(await files('/read', { json: { path: '/proc/self/mem' } }))).toEqual([
      422,
      'file_io_failed',
    ]);
  });

  test('a directory comes in pages, with names that are not UTF-8, which can be read and removed', async () => {
    const root = join(dir, 'pages');
    await mkdir(root);
    for (const name of ['a', 'b', 'c']) await writeFile(join(root, name), '');
    const odd = Buffer.concat([Buffer.from(join(root, 'x')), Buffer.from([0xff])]);
    await writeFile(odd, 'odd');
    const list = async (more: string) =>
      (await (await files(`?path=${encodeURIComponent(root)}${more}`)).json()) as FileList;
    const whole = await list('');
    expect(whole.next_cursor).toBe(null);
    expect(whole.items.map(({ name }) => name)).toEqual(['a', 'b', 'c', 'x\u{10FEFF}']);
    const first = await list('&limit=3');
    expect(first.items).toHaveLength(3);
    const rest = await list(`&limit=3&cursor=${first.next_cursor}`);
    expect(rest).toEqual({ items: whole.items.slice(3), next_cursor: null });
    const path = rest.items[0]?.path;
    expect(await (await files('/read', { json: { path } })).text()).toBe('odd');
    expect((await files('/remove', { json: { path } })).status).toBe(204);
    expect((await readdir(root)).sort()).toEqual(['a', 'b', 'c']);
    for (const wrong of ['&limit=0', '&limit=1001', '&cursor=', '&cursor=*', '&cursor=a']) {
      expect(await failure(await files(`?path=${encodeURIComponent(root)}${wrong}`))).toEqual([
        400,
        'validation_failed',
      ]);
    }
  });

  test('a move between file systems arrives, and what cannot be moved says why', async () => {
    const elsewhere = await mkdtemp('/dev/shm/perch-test-');
    await using cleanup = new AsyncDisposableStack();
    cleanup.defer(() => rm(elsewhere, { recursive: true }));
    const source = join(dir, 'moved');
    await mkdir(source);
    await writeFile(join(source, 'f'), 'x');
    const move = (destination: string) => files('/move', { json: { source, destination } });
    await mkdir(join(elsewhere, 'full', 'x'), { recursive: true });
    expect(await failure(await move(join(elsewhere, 'full')))).toEqual([409, 'directory_not_empty']);
    expect(await failure(await move('/sys/class/net'))).toEqual([409, 'directory_not_empty']);
    expect((await move(join(elsewhere, 'new'))).status).toBe(204);
    expect(await readFile(join(elsewhere, 'new', 'f'), 'utf8')).toBe('x');
    expect((await readdir(dir)).includes('moved')).toBe(false);
  });

  test('directories are listed, made, moved and removed', async () => {
    const at = (name: string) => join(dir, name);
    expect((await files('/mkdir', { json: { path: at('d/e') } })).status).toBe(204);
    expect(await failure(await files('/mkdir', { json: { path: at('d/e') } }))).toEqual([409, 'file_exists']);
    await writeFile(at('d/f'), 'x');
    const list = (await (await files(`?path=${at('d')}`)).json()) as {
      items: { name: string; type: string }[];
    };
    expect(list.items.map(({ name, type }) => [name, type])).toEqual([
      ['e', 'directory'],
      ['f', 'file'],
    ]);
    expect((await files('/move', { json: { source: at('d/f'), destination: at('g') } })).status).toBe(204);
    expect((await files('/remove', { json: { path: at('d') } })).status).toBe(204);
    expect(await failure(await files(`?path=${at('d')}`))).toEqual([404, 'file_not_found']);
    expect(await failure(await files(`?path=${at('g')}`))).toEqual([400, 'not_a_directory']);
  });

  test('a guest that dies ends what waits for it', async () => {
    const other = await plane.create();
    const asked = plane.fetch(`/v1/sandboxes/${other.id}/exec`, { json: { cmd: 'sleep', args: ['60'] } });
    await sleep(300);
    plane.host.change(other.id, { status: 'failed', reason: 'it burned' });
    expect(await failure(await asked)).toEqual([409, 'sandbox_failed']);
  });
});
