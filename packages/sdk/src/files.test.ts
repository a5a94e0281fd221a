import { PerchError } from '@perch/protocol';
import { expect, test } from 'vitest';
import { Perch } from './index.ts';
import { fakeServer, json } from './testing/fake-server.ts';

const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'no error',
    (error: unknown) => error,
  );

const filesAt = (url: string) => new Perch({ url, apiKey: 'perch_x' }).sandboxes.files;

test('every kind of source arrives whole', async () => {
  const bodies: string[] = [];
  await using server = await fakeServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    bodies.push(body);
    response.writeHead(204).end();
  });
  const files = filesAt(server.url);
  async function* chunks() {
    yield new TextEncoder().encode('iter');
    yield new TextEncoder().encode('able');
  }
  await files.write('sb0', '/ä b', 'text');
  await files.write('sb0', '/x', new TextEncoder().encode('bytes'));
  await files.write('sb0', '/x', new Blob(['blob']));
  await files.write('sb0', '/x', chunks());
  await files.write('sb0', '/x', new Blob(['stream']).stream());
  expect(bodies).toEqual(['text', 'bytes', 'blob', 'iterable', 'stream']);
  expect(server.requests[0]?.url).toBe('/v1/sandboxes/sb0/files/stream/write?path=%2F%C3%A4+b');
});

test('long bytes and texts are sent as they are, with their length', async () => {
  const lengths: (string | undefined)[] = [];
  const received: Buffer[] = [];
  await using server = await fakeServer(async (request, response) => {
    lengths.push(request.headers['content-length']);
    received.push(Buffer.concat(await request.toArray()));
    response.writeHead(204).end();
  });
  const bytes = Uint8Array.from({ length: 3 * 2 ** 20 + 5 }, (_, i) => i / 7);
  await filesAt(server.url).write('sb0', '/x', bytes);
  await filesAt(server.url).write('sb0', '/x', 'ä'.repeat(2 ** 20));
  expect(lengths).toEqual([String(bytes.byteLength), String(2 ** 21)]);
  expect(received[0]?.equals(bytes)).toBe(true);
  expect(received[1]?.toString()).toBe('ä'.repeat(2 ** 20));
});

test('a source that fails gives its own error, and the upload breaks off', async () => {
  const { promise: broken, resolve } = Promise.withResolvers<void>();
  await using server = await fakeServer((request) => {
    request.resume().on('error', () => resolve());
  });
  async function* source() {
    yield new Uint8Array(100_000);
    throw new Error('disk on fire');
  }
  expect(await failure(filesAt(server.url).write('sb0', '/x', source()))).toMatchObject({
    message: 'disk on fire',
  });
  await broken;
});

test("a refused upload is the server's error", async () => {
  await using server = await fakeServer((request, response) => {
    request.resume();
    request.on('end', () =>
      json(response, 507, new PerchError('disk_full', 'Full.', { path: '/x' }).toBody()),
    );
  });
  expect(await failure(filesAt(server.url).write('sb0', '/x', 'data'))).toMatchObject({ code: 'disk_full' });
});

test('a download comes whole', async () => {
  const content = Buffer.alloc(3_000_000, 'abc');
  await using server = await fakeServer((_request, response) => {
    response.writeHead(200, { 'content-length': String(content.length) }).end(content);
  });
  const { size } = await filesAt(server.url).download('sb0', '/x');
  expect(size).toBe(content.length);
  expect(Buffer.from(await filesAt(server.url).read('sb0', '/x')).equals(content)).toBe(true);
});

test.each([
  ['with a length', { 'content-length': '1000' }],
  ['in chunks', {}],
])('a download %s that breaks off is transfer_interrupted', async (_, headers) => {
  await using server = await fakeServer((_request, response) => {
    response.writeHead(200, headers);
    response.write('part', () => setTimeout(() => response.destroy(), 20));
  });
  expect(await failure(filesAt(server.url).read('sb0', '/x'))).toMatchObject({
    code: 'transfer_interrupted',
  });
});

test('an empty file is empty', async () => {
  await using server = await fakeServer((_request, response) =>
    response.writeHead(200, { 'content-length': '0' }).end(),
  );
  expect(await filesAt(server.url).readText('sb0', '/x')).toBe('');
});

test('mode and time go with an upload, and come with a download', async () => {
  await using server = await fakeServer((request, response) => {
    request.resume();
    if (request.method === 'POST') response.writeHead(204).end();
    else response.writeHead(200, { 'perch-mode': '0750', 'perch-mtime': '2001-02-03T04:05:06.7Z' }).end('x');
  });
  const files = filesAt(server.url);
  await files.write('sb0', '/x', 'x', { mode: 0o64, modifiedAt: new Date(0) });
  await files.write('sb0', '/x', 'x', { modifiedAt: '2001-02-03T04:05:06.000000001Z' });
  expect(server.requests.map(({ url }) => url?.split('?')[1])).toEqual([
    'path=%2Fx&mode=64&mtime=1970-01-01T00%3A00%3A00.000Z',
    'path=%2Fx&mtime=2001-02-03T04%3A05%3A06.000000001Z',
  ]);
  const { mode, modified_at } = await files.download('sb0', '/x');
  expect([mode, modified_at]).toEqual([0o750, '2001-02-03T04:05:06.7Z']);
});

test('a directory comes by page, or all of it as it is taken', async () => {
  const pages = [
    { items: [{ name: 'a' }], next_cursor: 'YQ' },
    { items: [{ name: 'b' }], next_cursor: null },
  ];
  await using server = await fakeServer((request, response) =>
    json(response, 200, pages[request.url?.includes('cursor=YQ') ? 1 : 0]),
  );
  const files = filesAt(server.url);
  expect(await files.list('sb0', '/d', { limit: 1, cursor: 'YQ' })).toEqual(pages[1]);
  const names: string[] = [];
  for await (const { name } of files.all('sb0', '/d')) names.push(name);
  expect(names).toEqual(['a', 'b']);
  expect(server.requests.map(({ url }) => url?.split('?')[1])).toEqual([
    'path=%2Fd&limit=1&cursor=YQ',
    'path=%2Fd&limit=1000',
    'path=%2Fd&limit=1000&cursor=YQ',
  ]);
});

test('an archive comes as it is, and one that breaks off is an error', async () => {
  await using server = await fakeServer((request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-tar' }).write('archive');
    if (request.url?.includes('whole')) response.end();
    else setImmediate(() => response.destroy());
  });
  const files = filesAt(server.url);
  expect(await new Response(await files.archive('sb0', 'whole')).text()).toBe('archive');
  expect(server.requests[0]?.url).toBe('/v1/sandboxes/sb0/files/archive?path=whole');
  const broken = await files.archive('sb0', 'broken');
  expect(await failure(new Response(broken).text())).toMatchObject({ code: 'transfer_interrupted' });
});

test.each<[string, string, unknown]>([
  [
    'says why',
    JSON.stringify(new PerchError('file_io_failed', 'It broke.', { path: '/x', problem: 'EIO' }).toBody()),
    { code: 'file_io_failed', message: 'It broke.', details: { path: '/x', problem: 'EIO' } },
  ],
  ['says nothing that is known', '{"error":{"code":"x"}}', { code: 'transfer_interrupted' }],
  ['says no JSON', '{', { code: 'transfer_interrupted' }],
])('an archive whose trailer %s is that error', async (_, trailer, error) => {
  await using server = await fakeServer((_request, response) => {
    response.writeHead(200, { trailer: 'perch-error' }).write('part');
    response.addTrailers({ 'perch-error': trailer });
    response.end();
  });
  const broken = await filesAt(server.url).archive('sb0', 'x');
  expect(await failure(new Response(broken).text())).toMatchObject(error as object);
  expect(server.requests[0]?.headers).toMatchObject({ te: 'trailers', connection: 'TE' });
});
