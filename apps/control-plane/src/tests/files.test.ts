import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorBody, type FileList, FileList as FileListSchema } from '@perch/protocol';
import { Check } from 'typebox/value';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually, standsStill, TestPlane } from '../testing/index.ts';

let plane: TestPlane;
let id: string;
let root: string;
beforeAll(async () => {
  plane = await TestPlane.start();
  ({ id } = await plane.create());
  root = join(plane.dir, id);
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());

const files = (path: string, init?: Parameters<TestPlane['fetch']>[1]) =>
  plane.fetch(`/v1/sandboxes/${id}/files${path}`, init);
const code = async (answer: Response) => ((await answer.json()) as { error: { code: string } }).error.code;

function form(...parts: [string, string | Blob][]): FormData {
  const body = new FormData();
  for (const [name, value] of parts) {
    if (typeof value === 'string') body.append(name, value);
    else body.append(name, value, 'name');
  }
  return body;
}

const content = randomBytes(3_000_000);

test.each([
  [
    'path first',
    [
      ['path', 'a.bin'],
      ['file', new Blob([content])],
    ],
  ],
  [
    'file first',
    [
      ['file', new Blob([content])],
      ['path', 'b.bin'],
    ],
  ],
] as [string, [string, string | Blob][]][])('a form is written whole: %s', async (_name, parts) => {
  const answer = await files('/write', { method: 'POST', body: form(...parts) });
  expect(answer.status).toBe(204);
  const path = String(parts.find(([name]) => name === 'path')?.[1]);
  expect(content.equals(await readFile(join(root, path)))).toBe(true);
  const read = await files('/read', { json: { path } });
  expect(read.headers.get('content-length')).toBe(String(content.length));
  expect(read.headers.get('content-type')).toBe('application/octet-stream');
  expect(content.equals(Buffer.from(await read.arrayBuffer()))).toBe(true);
  expect(await readdir(join(plane.config.controlDir, 'uploads'))).toEqual([]);
});

test('an empty file is written and read', async () => {
  const body = form(['path', 'empty'], ['file', new Blob([])]);
  expect((await files('/write', { method: 'POST', body })).status).toBe(204);
  expect((await stat(join(root, 'empty'))).size).toBe(0);
  expect(await (await files('/read', { json: { path: 'empty' } })).text()).toBe('');
});

test.each([
  ['no path', [['file', new Blob(['x'])]], 'path is required'],
  ['no file', [['path', 'x']], 'file is required'],
  [
    'a path with NUL',
    [
      ['path', 'a\0b'],
      ['file', new Blob(['x'])],
    ],
    'path must be',
  ],
  [
    'an unknown part',
    [
      ['path', 'x'],
      ['mode', '0777'],
      ['file', new Blob(['x'])],
    ],
    'mode is unknown',
  ],
  [
    'two paths',
    [
      ['path', 'x'],
      ['path', 'y'],
      ['file', new Blob(['x'])],
    ],
    'path must be one field',
  ],
  [
    'a file that is text',
    [
      ['path', 'x'],
      ['file', 'x'],
    ],
    'file must be one part with a filename',
  ],
] as [string, [string, string | Blob][], string][])(
  'a form with %s is refused',
  async (_name, parts, problem) => {
    const answer = await files('/write', { method: 'POST', body: form(...parts) });
    expect(answer.status).toBe(400);
    expect(await answer.text()).toContain(problem);
    await expect(stat(join(root, 'x'))).rejects.toThrow();
  },
);

test('a body that is no form is 415, and a form without boundary is refused', async () => {
  const answer = await files('/write', { json: { path: 'x' } });
  expect(answer.status).toBe(415);
  const broken = await files('/write', {
    method: 'POST',
    headers: { 'content-type': 'multipart/form-data' },
    body: 'x',
  });
  expect(broken.status).toBeGreaterThanOrEqual(400);
  expect(broken.status).toBeLessThan(500);
});

test('a stream is written and read, with a length and without', async () => {
  const big = randomBytes(20_000_000);
  const sized = await files('/stream/write?path=big', { method: 'POST', body: big });
  expect(sized.status).toBe(204);
  const read = await files('/stream/read?path=big');
  expect(big.equals(Buffer.from(await read.arrayBuffer()))).toBe(true);
  const unsized = await files('/stream/write?path=chunked', {
    method: 'POST',
    body: Readable.toWeb(Readable.from([big.subarray(0, 5), big.subarray(5)])) as never,
    duplex: 'half',
  } as never);
  expect(unsized.status).toBe(204);
  expect(big.equals(await readFile(join(root, 'chunked')))).toBe(true);
  expect((await files('/stream/write?path=none', { method: 'POST' })).status).toBe(204);
  expect((await stat(join(root, 'none'))).size).toBe(0);
});

test.each([
  '/stream/write',
  '/stream/write?path=',
  '/stream/write?path=a&color=1',
  '/stream/write?path=a%00b',
])('%s is refused', async (path) => {
  expect((await files(path, { method: 'POST', body: 'x' })).status).toBe(400);
});

/** Sends a part of a body and cuts the connection. */
async function cutUpload(path: string, headers: Record<string, string>, part: string): Promise<void> {
  const { hostname, port } = new URL(plane.url);
  const call = request({
    hostname,
    port,
    method: 'POST',
    path: `/v1/sandboxes/${id}/files${path}`,
    headers: { 'x-api-key': plane.key, ...headers },
  });
  call.on('error', () => {});
  call.write(part);
  await sleep(200);
  call.destroy();
}

test('the bytes of a file are counted, and nothing else that comes with them', async () => {
  const counted = async () => {
    const figures = await (await plane.fetch('/metrics')).text();
    return ['in', 'out'].map((way) =>
      Number(
        new RegExp(`^perch_file_bytes_total\\{direction="${way}"\\} (\\d+)$`, 'm').exec(figures)?.[1] ?? 0,
      ),
    );
  };
  const before = await counted();
  const body = new Blob([content.subarray(0, 700_000)]).stream();
  const put = await files('/stream/write?path=counted', { method: 'POST', body, duplex: 'half' } as never);
  expect(put.status).toBe(204);
  await (await files('/stream/read?path=counted')).arrayBuffer();
  expect((await counted()).map((bytes, at) => bytes - (before[at] ?? 0))).toEqual([700_000, 700_000]);
});

test('an upload that breaks off leaves no file', async () => {
  await cutUpload('/stream/write?path=cut1', { 'content-length': '1000' }, 'half');
  await cutUpload('/stream/write?path=cut2', {}, 'half');
  const boundary = 'multipart/form-data; boundary=b';
  const head =
    '--b\r\ncontent-disposition: form-data; name="path"\r\n\r\ncut3\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nhalf';
  await cutUpload('/write', { 'content-type': boundary, 'content-length': '5000' }, head);
  await cutUpload('/write', { 'content-type': boundary }, head.replace('cut3', 'cut4'));
  await eventually(async () => !(await readdir(root)).some((name) => name.includes('cut')));
});

test('HEAD of a file tells size, mode and time, and sends nothing of it', async () => {
  await writeFile(join(root, 'told'), 'content', { mode: 0o640 });
  const head = await files('/stream/read?path=told', { method: 'HEAD' });
  expect([head.status, head.headers.get('content-length'), head.headers.get('perch-mode')]).toEqual([
    ...[200, '7', '0640'],
  ]);
  expect(await head.text()).toBe('');
  expect((await files('/stream/read?path=missing', { method: 'HEAD' })).status).toBe(404);
});

test('a part of a form with a transfer encoding is refused before anything is written, and one as it is taken', async () => {
  const write = (pathEncoding: string, fileEncoding: string) =>
    files('/write', {
      method: 'POST',
      headers: { 'content-type': 'multipart/form-data; boundary=b' },
      body:
        `--b\r\ncontent-disposition: form-data; name="path"\r\nContent-Transfer-Encoding: ${pathEncoding}\r\n\r\nencoded\r\n` +
        `--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\nContent-Transfer-Encoding: ${fileEncoding}\r\n\r\nYWJj\r\n--b--`,
    });
  for (const [path, file, part] of [
    ['base64', 'binary', 'path'],
    ['7bit', 'Base64', 'file'],
    ['8bit', 'quoted-printable', 'file'],
  ] as const) {
    const answer = await write(path, file);
    expect(answer.status).toBe(415);
    expect(((await answer.json()) as ErrorBody).error).toMatchObject({
      code: 'unsupported_media_type',
      message: expect.stringMatching(new RegExp(`^The part ${part} is taken as binary`)),
    });
    expect((await files('/stat?path=encoded')).status).toBe(404);
  }
  expect((await write('8bit', 'Binary')).status).toBe(204);
  expect((await files('/stat?path=encoded')).status).toBe(200);
});

test('a form that ends in the middle of its file is refused and leaves no file', async () => {
  const body =
    '--b\r\ncontent-disposition: form-data; name="path"\r\n\r\nshort\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nhalf';
  const answer = await files('/write', {
    method: 'POST',
    headers: { 'content-type': 'multipart/form-data; boundary=b' },
    body,
  });
  expect(answer.status).toBeGreaterThanOrEqual(400);
  expect((await readdir(root)).filter((name) => name.startsWith('short'))).toEqual([]);
});

test('a download that breaks off is an error at the client, never a short file', async () => {
  const other = await plane.create();
  await writeFile(join(plane.dir, other.id, 'big'), Buffer.alloc(200_000_000));
  const answer = await plane.fetch(`/v1/sandboxes/${other.id}/files/stream/read?path=big`);
  expect(answer.status).toBe(200);
  plane.host.change(other.id, { status: 'failed', reason: 'gone' });
  await expect(answer.arrayBuffer()).rejects.toThrow();
});

test('a slow reader holds the file up instead of filling the memory', async () => {
  await writeFile(join(root, 'large'), Buffer.alloc(200_000_000));
  const { hostname, port } = new URL(plane.url);
  const path = `/v1/sandboxes/${id}/files/stream/read?path=large`;
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const call = request({ hostname, port, path, headers: { 'x-api-key': plane.key } }, resolve);
    call.on('error', reject);
    call.end();
  });
  answer.pause();
  const taken = () => plane.guests.get(id)?.reading?.bytesRead ?? 0;
  await eventually(() => taken() > 0);
  await standsStill(taken);
  expect(taken()).toBeLessThan(100_000_000);
  answer.destroy();
});

test('a directory comes as a tar stream', async () => {
  await mkdir(join(root, 'packed/sub'), { recursive: true });
  await writeFile(join(root, 'packed/sub/a'), 'content of a');
  const answer = await files('/archive?path=packed');
  expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/x-tar']);
  const archive = Buffer.from(await answer.arrayBuffer());
  const listed = execFileSync('tar', ['--list'], { input: archive, encoding: 'utf8' });
  expect(listed.trimEnd().split('\n').sort()).toEqual(['./', './sub/', './sub/a']);
  for (const [path, status, error] of [
    ['missing', 404, 'file_not_found'],
    ['packed/sub/a', 400, 'not_a_directory'],
  ] as const) {
    const refused = await files(`/archive?path=${path}`);
    expect([refused.status, await code(refused)]).toEqual([status, error]);
  }
});

test('an archive that breaks off says why to a client that takes trailers, and is cut for any other', async () => {
  const { hostname, port } = new URL(plane.url);
  const broken = async (headers: Record<string, string>) => {
    const other = await plane.create();
    await writeFile(join(plane.dir, other.id, 'endless'), '');
    await truncate(join(plane.dir, other.id, 'endless'), 2 ** 36);
    const path = `/v1/sandboxes/${other.id}/files/archive?path=.`;
    const call = request({ hostname, port, path, headers: { 'x-api-key': plane.key, ...headers } });
    const [answer] = (await once(call.end(), 'response')) as [IncomingMessage];
    answer.once('data', () => plane.host.change(other.id, { status: 'failed', reason: 'größer' }));
    const isWhole = await finished(answer.resume()).then(
      () => true,
      () => false,
    );
    return { isWhole, trailer: answer.trailers['perch-error'], announced: answer.headers.trailer };
  };
  const told = await broken({ te: 'trailers', connection: 'TE' });
  expect(told).toMatchObject({ isWhole: true, announced: 'perch-error' });
  expect(told.trailer).toMatch(/^[ -~]+$/);
  expect(JSON.parse(told.trailer ?? '')).toMatchObject({
    error: { code: 'sandbox_failed', details: { reason: 'größer' } },
  });
  // As from a proxy that passes the offer on and would lose the trailer.
  const cut = await broken({ te: 'trailers' });
  expect(cut).toEqual({ isWhole: false, trailer: undefined, announced: undefined });
});

test('what cannot be read says why', async () => {
  await mkdir(join(root, 'dir'), { recursive: true });
  for (const ask of [
    (path: string) => files('/read', { json: { path } }),
    (path: string) => files(`/stream/read?path=${path}`),
  ]) {
    const missing = await ask('missing');
    expect([missing.status, await code(missing)]).toEqual([404, 'file_not_found']);
    const directory = await ask('dir');
    expect([directory.status, await code(directory)]).toEqual([400, 'not_a_file']);
  }
});

test('directories are made, listed, moved and removed', async () => {
  expect((await files('/mkdir', { json: { path: 'd/e' } })).status).toBe(204);
  const again = await files('/mkdir', { json: { path: 'd/e' } });
  expect([again.status, await code(again)]).toEqual([409, 'file_exists']);
  await writeFile(join(root, 'd', 'f.txt'), 'text');
  const list = (await (await files('?path=d')).json()) as FileList;
  expect(Check(FileListSchema, list)).toBe(true);
  expect(list.items.map(({ name, type }) => [name, type])).toEqual([
    ['e', 'directory'],
    ['f.txt', 'file'],
  ]);
  expect((await files('/move', { json: { source: 'd/f.txt', destination: 'g.txt' } })).status).toBe(204);
  expect(await readFile(join(root, 'g.txt'), 'utf8')).toBe('text');
  expect((await files('/remove', { json: { path: 'd' } })).status).toBe(204);
  const gone = await files('?path=d');
  expect([gone.status, await code(gone)]).toEqual([404, 'file_not_found']);
  const none = await files('?path=g.txt');
  expect([none.status, await code(none)]).toEqual([400, 'not_a_directory']);
});

test('a transfer is use of the sandbox', async () => {
  const other = await plane.create();
  const slow = async function* () {
    yield Buffer.from('x');
    await eventually(async () => (await readdir(join(plane.dir, other.id))).length > 0);
    await plane.endAfter(other.id, 1);
    await sleep(2_000);
    yield Buffer.from('x');
  };
  const answer = await plane.fetch(`/v1/sandboxes/${other.id}/files/stream/write?path=slow`, {
    method: 'POST',
    body: Readable.toWeb(Readable.from(slow())) as never,
    duplex: 'half',
  } as never);
  expect(answer.status).toBe(204);
  await eventually(async () => (await plane.get(other.id)).status === 'destroyed');
});
