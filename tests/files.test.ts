/** Files into a sandbox and out of it: whole or not at all. */
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { type ClientRequest, request } from 'node:http';
import { Readable } from 'node:stream';
import { beforeAll, describe, expect, test } from 'vitest';
import { eventually } from './setup/eventually.ts';
import { type RestInit, refusal, rest } from './setup/rest.ts';
import { newSandbox, sh, sharedPerch } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

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
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const quoted = (path: string) => `'${path.replaceAll("'", "'\\''")}'`;
const sha256InGuest = async (path: string) => (await inGuest(`sha256sum < ${quoted(path)}`)).slice(0, 64);

const megabyte = randomBytes(1_000_003);
const large = randomBytes(50_000_017);

/** The parts of a form in the order they are given. */
function form(...parts: [name: string, value: string | Uint8Array<ArrayBuffer>][]): RestInit {
  const body = new FormData();
  for (const [name, value] of parts) {
    if (typeof value === 'string') body.append(name, value);
    else body.append(name, new Blob([value]), 'its own name');
  }
  return { method: 'POST', body };
}

describe('a form is written whole', () => {
  test.each([
    ['its path first', ['path', 'file']],
    ['its file first', ['file', 'path']],
  ])('%s', async (_name, order) => {
    const path = `form ${order[0]}`;
    const parts = order.map((name) => [name, name === 'path' ? path : megabyte] as [string, string]);
    const answer = await ask('/write', form(...parts));
    expect([answer.status, await answer.text()]).toEqual([204, '']);
    expect(await sha256InGuest(path)).toBe(sha256(megabyte));
    expect(await inGuest(`stat -c '%U:%G %a' ${quoted(path)}`)).toBe('user:user 644\n');
  });

  test.each<[string, RestInit, number, string]>([
    ['no path', form(['file', megabyte]), 400, 'path is required'],
    ['no file', form(['path', 'refused']), 400, 'file is required'],
    [
      'an unknown part',
      form(['path', 'refused'], ['mode', '777'], ['file', megabyte]),
      400,
      'mode is unknown',
    ],
    ['a path with NUL', form(['path', 'refused\0'], ['file', megabyte]), 400, 'path must be'],
    [
      'no boundary',
      { method: 'POST', body: 'x', headers: { 'content-type': 'multipart/form-data' } },
      400,
      '',
    ],
    ['another type', { json: { path: 'refused' } }, 415, 'application/json'],
  ])('and refused with %s', async (_name, init, status, message) => {
    const error = await refusal(await ask('/write', init));
    expect(error.status).toBe(status);
    expect(error.message).toContain(message);
    expect(await inGuest('ls -A | grep -c refused || true')).toBe('0\n');
  });
});

test('a small file is read with its length', async () => {
  await files.write(id, 'small', megabyte);
  const answer = await ask('/read', { json: { path: 'small' } });
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-length')).toBe(String(megabyte.length));
  expect(answer.headers.get('content-type')).toBe('application/octet-stream');
  expect(sha256(await answer.bytes())).toBe(sha256(megabyte));
});

test('50 MB are streamed both ways, with a length and without', async () => {
  const sum = sha256(large);
  const sized = await ask(`/stream/write${query('/tmp/sized')}`, { method: 'POST', body: large });
  expect(sized.status).toBe(204);
  expect(await sha256InGuest('/tmp/sized')).toBe(sum);
  const pieces = Array.from({ length: 51 }, (_, n) => large.subarray(n * 1_000_000, (n + 1) * 1_000_000));
  await files.write(id, '/tmp/pieces', Readable.from(pieces));
  expect(await sha256InGuest('/tmp/pieces')).toBe(sum);
  const hash = createHash('sha256');
  const { stream, size } = await files.download(id, '/tmp/sized');
  expect(size).toBe(large.length);
  for await (const chunk of stream) hash.update(chunk);
  expect(hash.digest('hex')).toBe(sum);
  await inGuest('rm /tmp/sized /tmp/pieces');
});

test('an empty file and a file of /proc, which does not know its length, are read', async () => {
  await files.write(id, 'empty', '');
  expect(await inGuest('stat -c %s empty')).toBe('0\n');
  const empty = await ask(`/stream/read${query('empty')}`);
  expect([empty.status, await empty.text()]).toEqual([200, '']);
  expect((await ask(`/write`, form(['path', 'empty form'], ['file', new Uint8Array()]))).status).toBe(204);
  expect(await files.readText(id, 'empty form')).toBe('');
  const { stream, size } = await files.download(id, '/proc/cpuinfo');
  const cpus = await new Response(stream).text();
  expect(cpus).toContain('processor');
  expect(size).toBe(Buffer.byteLength(cpus));
});

describe('what cannot be read or written as a file says why', () => {
  const readings = {
    read: (path: string) => ask('/read', { json: { path } }),
    'stream/read': (path: string) => ask(`/stream/read${query(path)}`),
    'stream/write': (path: string) => ask(`/stream/write${query(path)}`, { method: 'POST', body: 'x' }),
    write: (path: string) => ask('/write', form(['path', path], ['file', megabyte])),
  };
  beforeAll(() => inGuest('mkdir -p dir && mkfifo fifo && ln -s dir link && touch file'));

  test.each(['read', 'stream/read'] as const)('%s of a missing file', async (route) => {
    for (const path of ['missing', 'no/such', '/home/user/missing', 'dir/../missing']) {
      const error = await refusal(await readings[route](path));
      expect([path, error.code, error.status]).toEqual([path, 'file_not_found', 404]);
      expect(error.message).toContain(path);
    }
  });

  test.each(Object.entries(readings))('%s of a directory, a device, a FIFO', async (_name, call) => {
    for (const path of ['dir', 'link', '/', '/dev/null', '/dev/zero', '/dev/vda', 'fifo']) {
      const error = await refusal(await call(path));
      expect([path, error.status, error.code]).toEqual([path, 400, 'not_a_file']);
    }
    expect(await inGuest('ls -A dir; ls /dev/null')).toBe('/dev/null\n');
  });

  test.each(Object.entries(readings))('%s of a file below a file', async (_name, call) => {
    const error = await refusal(await call('file/below'));
    expect([error.status, error.code]).toEqual([400, 'not_a_directory']);
  });

  test('a refusal comes also while the client still sends', async () => {
    for (const body of [large, Readable.from([large]) as unknown as ReadableStream]) {
      const answer = await ask(`/stream/write${query('dir')}`, { method: 'POST', body, duplex: 'half' });
      expect(await refusal(answer)).toMatchObject({ status: 400, code: 'not_a_file' });
    }
    await expect(files.write(id, 'dir', Readable.from([large]))).rejects.toMatchObject({
      code: 'not_a_file',
    });
  });
});

test('overwriting keeps the mode, and nobody sees a part of the file', async () => {
  await inGuest('echo old > kept && chmod 751 kept && ln -s kept to-kept');
  let go = () => {};
  const waiting = new Promise<void>((resolve) => {
    go = resolve;
  });
  const half = Promise.withResolvers<void>();
  async function* slow() {
    yield megabyte.subarray(0, 500_000);
    half.resolve();
    await waiting;
    yield megabyte.subarray(500_000);
  }
  const writing = files.write(id, 'to-kept', slow());
  await half.promise;
  expect(await files.readText(id, 'kept')).toBe('old\n');
  go();
  await writing;
  expect(await sha256InGuest('kept')).toBe(sha256(megabyte));
  expect(await inGuest("stat -c '%a %U %F' kept; readlink to-kept")).toBe('751 user regular file\nkept\n');
});

const multipart = 'multipart/form-data; boundary=b';
/** A form up to the contents of its file, with the path as it is: FormData would change line breaks. */
const formHead = (path: string) =>
  `--b\r\ncontent-disposition: form-data; name="path"\r\n\r\n${path}\r\n` +
  '--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n';

/** Starts an upload; its body is the test's to send. */
function startUpload(path: string, headers: Record<string, string | number>): ClientRequest {
  const { url, key } = shared;
  const call = request(`${url}/v1/sandboxes/${id}/files${path}`, {
    method: 'POST',
    headers: { 'x-api-key': key, ...headers },
  });
  call.on('error', () => {});
  return call;
}

describe('an upload that breaks off leaves nothing', () => {
  test.each<[string, (path: string) => [string, Record<string, string | number>, string]]>([
    ['stream with a length', (path) => [`/stream/write${query(path)}`, { 'content-length': 5_000_000 }, '']],
    ['stream without one', (path) => [`/stream/write${query(path)}`, { 'transfer-encoding': 'chunked' }, '']],
    [
      'form with a length',
      (path) => ['/write', { 'content-type': multipart, 'content-length': 5_000_000 }, formHead(path)],
    ],
    [
      'form without one',
      (path) => ['/write', { 'content-type': multipart, 'transfer-encoding': 'chunked' }, formHead(path)],
    ],
  ])('%s', async (_name, parts) => {
    const dir = `broken-${randomUUID()}`;
    await inGuest(`mkdir ${dir} && echo old > ${dir}/file`);
    const [path, headers, before] = parts(`${dir}/file`);
    const call = startUpload(path, headers);
    call.write(before);
    call.write(megabyte);
    // The upload has begun when its temporary file is there.
    await eventually(async () => (await inGuest(`ls -A ${dir}`)) !== 'file\n');
    call.destroy();
    await eventually(async () => (await inGuest(`ls -A ${dir}`)) === 'file\n');
    expect(await inGuest(`cat ${dir}/file`)).toBe('old\n');
  });

  test('a form that ends in the middle of its file', async () => {
    const body = `${formHead('cut-short')}half`;
    const error = await refusal(
      await ask('/write', { method: 'POST', body, headers: { 'content-type': multipart } }),
    );
    expect(error).toMatchObject({ status: 400, code: 'malformed_body' });
    expect(await inGuest('ls -A | grep -ce cut-short -e perch || true')).toBe('0\n');
  });
});

test('a full disk is 507, whichever way, and nothing is left behind', async () => {
  const room = 5 * 2 ** 20;
  const tooMuch = large.subarray(0, 20_000_000);
  await inGuest('mkdir -p full && echo old > full/file');
  const free = Number(await inGuest('df --output=avail -B1 / | tail -1'));
  await inGuest(`fallocate -l ${free - room} /tmp/filler`);
  try {
    for (const call of [
      () => ask(`/stream/write${query('full/file')}`, { method: 'POST', body: tooMuch }),
      () => ask('/write', form(['path', 'full/file'], ['file', tooMuch])),
      () => ask('/write', form(['file', tooMuch], ['path', 'full/new'])),
    ]) {
      const error = await refusal(await call());
      expect(error).toMatchObject({ status: 507, code: 'disk_full' });
      expect(await inGuest('ls -A full; cat full/file')).toBe('file\nold\n');
    }
    await expect(files.write(id, 'full/new', Readable.from([tooMuch]))).rejects.toMatchObject({
      code: 'disk_full',
    });
  } finally {
    await inGuest('rm /tmp/filler');
  }
  await files.write(id, 'full/file', tooMuch);
  expect(await sha256InGuest('full/file')).toBe(sha256(tooMuch));
});

test('a file that shrinks while it is read is an error at the client, never a short file', async () => {
  for (const route of ['sdk', 'read', 'stream/read']) {
    await inGuest('truncate -s 300M shrinking');
    let stream: ReadableStream<Uint8Array> | null;
    if (route === 'sdk') ({ stream } = await files.download(id, 'shrinking'));
    else if (route === 'read') stream = (await ask('/read', { json: { path: 'shrinking' } })).body;
    else stream = (await ask(`/stream/read${query('shrinking')}`)).body;
    const reader = stream?.getReader();
    await reader?.read();
    await inGuest('truncate -s 1M shrinking');
    const all = async () => {
      while (!(await reader?.read())?.done);
    };
    if (route === 'sdk') await expect(all()).rejects.toMatchObject({ code: 'transfer_interrupted' });
    else await expect(all()).rejects.toThrow();
  }
  await inGuest('rm shrinking');
});

test('an archive that breaks off says why', async () => {
  await inGuest('mkdir packed && truncate -s 300M packed/shrinking');
  const reader = (await files.archive(id, 'packed')).getReader();
  await reader.read();
  await inGuest('truncate -s 1M packed/shrinking');
  const all = async () => {
    while (!(await reader.read()).done);
  };
  await expect(all()).rejects.toMatchObject({
    code: 'file_io_failed',
    details: { path: '/home/user/packed/shrinking', problem: 'it became shorter while it was read' },
  });
  await inGuest('rm -r packed');
});

test('a time that the disk of a sandbox has not is refused, and writes nothing', async () => {
  for (const [modifiedAt, nearest] of [
    ['2500-01-01T00:00:00Z', '2446-05-10T22:38:55Z'],
    ['1900-01-01T00:00:00Z', '1901-12-13T20:45:52Z'],
  ] as const) {
    await expect(files.write(id, 'timed', 'content', { modifiedAt })).rejects.toMatchObject({
      code: 'unsupported_by_file_system',
      message: expect.stringContaining(`the nearest is ${nearest}`),
    });
    await expect(files.stat(id, 'timed')).rejects.toMatchObject({ code: 'file_not_found' });
    await files.write(id, 'timed', 'content', { modifiedAt: nearest });
    expect(await files.stat(id, 'timed')).toMatchObject({ modified_at: nearest });
    await files.remove(id, 'timed');
  }
});

test('a sandbox that is destroyed breaks its transfers off with an error', async () => {
  await using sandbox = await newSandbox(perch);
  await sh(perch, sandbox.id, 'truncate -s 300M big');
  const { stream } = await files.download(sandbox.id, 'big');
  const reader = stream.getReader();
  await reader.read();
  const begun = Promise.withResolvers<void>();
  const never = new Promise<never>(() => {});
  async function* endless() {
    yield megabyte;
    begun.resolve();
    await never;
  }
  const writing = files.write(sandbox.id, 'up', endless());
  writing.catch(() => {});
  await begun.promise;
  await perch.sandboxes.delete(sandbox.id);
  const all = async () => {
    while (!(await reader.read()).done);
  };
  await expect(all()).rejects.toMatchObject({ code: 'transfer_interrupted' });
  await expect(writing).rejects.toThrow();
});

describe('names are taken as they are', () => {
  test.each([
    'a b',
    ' leading and trailing ',
    'ünï-🦜-é',
    'e\u0301',
    '"quotes" and \'more\'',
    'line\nbreak',
    'tab\t',
    '-rf',
    '~',
    '$HOME',
    '*',
    'a&b=c?d#e%41+f',
    '..a',
    'back\\slash',
  ])('%j', async (name) => {
    const dir = `names-${randomUUID()}`;
    const path = `${dir}/${name}`;
    await files.write(id, path, name);
    expect((await files.list(id, dir)).items.map((entry) => entry.name)).toEqual([name]);
    expect(await inGuest(`cat ${quoted(path)}`)).toBe(name);
    expect(await files.readText(id, path)).toBe(name);
    const body = `${formHead(`${path}2`)}of a form\r\n--b--\r\n`;
    const headers = { 'content-type': multipart };
    expect((await ask('/write', { method: 'POST', body, headers })).status).toBe(204);
    expect(await (await ask('/read', { json: { path: `${path}2` } })).text()).toBe('of a form');
    await files.move(id, path, `${path}3`);
    await files.mkdir(id, path);
    await files.remove(id, `${path}2`);
    expect((await files.list(id, dir)).items.map((entry) => entry.name)).toEqual([name, `${name}3`]);
  });
});

test('a watch tells the changes of a tree as they happen, until it is left', async () => {
  await files.mkdir(id, 'watched');
  await using watch = await files.watch(id, 'watched', { recursive: true });
  await files.write(id, 'watched/new', 'text');
  await files.mkdir(id, 'watched/in');
  const seen: string[] = [];
  for await (const { type, name } of watch) {
    seen.push(`${type} ${name}`);
    if (name === 'in') break;
  }
  expect(seen).toEqual(['create new', 'chmod new', 'write new', 'create in']);
  await expect(files.watch(id, 'watched/new')).rejects.toMatchObject({ code: 'not_a_directory' });
  await expect(files.watch(id, 'nowhere')).rejects.toMatchObject({ code: 'file_not_found' });
});
