/** The one address by TLS: HTTP/2 and HTTP/1.1, for the API and for ports of sandboxes. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  createServer as createH2cServer,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { request as requestTls } from 'node:https';
import { type AddressInfo, connect as connectTcp, createServer } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { certify } from '../testing/certificate.ts';
import { eventually, standsStill, TestPlane } from '../testing/index.ts';
import { RawH2 } from '../testing/raw-h2.ts';
import { echo, sendRaw, WebServer } from '../testing/web-guest.ts';

let plane: TestPlane;
let agent: WebServer;
let ca: Buffer;
let port: number;
let session: ClientHttp2Session;
let box: { sandboxID: string; envdAccessToken: string };

beforeAll(async () => {
  agent = await WebServer.start((asked, answer) => {
    if (asked.url === '/health') answer.writeHead(204).end();
    else echo(asked, answer);
  });
  plane = await TestPlane.start({}, undefined, agent.port);
  ca = await certify(plane.config.tlsDir);
  port = Number(new URL(plane.url).port);
  session = h2();
}, 60_000);
afterAll(async () => {
  session.destroy();
  await plane[Symbol.asyncDispose]();
  await agent[Symbol.asyncDispose]();
});
beforeEach(async () => {
  const answer = await ask('api.perch.test', {
    ':method': 'POST',
    ':path': '/v2/sandboxes',
    ...{ 'x-api-key': plane.key, 'content-type': 'application/json' },
    body: '{"templateID":"base"}',
  });
  expect(answer.headers[':status']).toBe(201);
  box = JSON.parse(answer.text);
});

/** A connection of its own, by a name of the certificate. Node's client counts like its server: see `h2.ts`. */
function h2(): ClientHttp2Session {
  const options = { ca, servername: 'api.perch.test', maxSessionMemory: 100_000 };
  const made = connect(`https://127.0.0.1:${port}`, options);
  made.on('error', () => {});
  return made;
}

/** What a stream of HTTP/2 has under way before its reader takes any of it. */
const windowBytes = 65_535;

type Asked = OutgoingHttpHeaders & { body?: string };

function open(authority: string, headers: OutgoingHttpHeaders, on = session): ClientHttp2Stream {
  const stream = on.request({ ':authority': `${authority}:${port}`, ...headers }, { endStream: false });
  stream.on('error', () => {});
  return stream;
}

async function ask(authority: string, { body, ...headers }: Asked = {}, on = session) {
  const stream = open(authority, headers, on);
  stream.end(body);
  const [head] = (await Promise.race([once(stream, 'response'), closed(stream)])) as [IncomingHttpHeaders];
  let text = '';
  stream.setEncoding('utf8').on('data', (chunk) => {
    text += chunk;
  });
  await closed(stream);
  return { headers: head, text, code: stream.rstCode };
}

async function closed(stream: ClientHttp2Stream): Promise<[IncomingHttpHeaders]> {
  if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
  return [{}];
}

/** Sends what a program that reads nothing leaves a part of at its client. */
async function fill(stream: ClientHttp2Stream): Promise<void> {
  for (let at = 0; at < 96; at++) stream.write(Buffer.alloc(65_536));
  await standsStill(() => stream.writableLength);
}

/** Whether this side of a connection of this machine is. A program that does not read does not see it end. */
async function isOpen(from: number): Promise<boolean> {
  const hex = from.toString(16).toUpperCase().padStart(4, '0');
  const established = new RegExp(`^ *\\d+: \\w+:${hex} \\w+:\\w+ 01 `, 'm');
  return established.test(await readFile('/proc/net/tcp', 'utf8'));
}

const host = (id: string, at: number) => `${at}-${id}.perch.test`;

describe('one address', () => {
  test('speaks plain HTTP/1.1, HTTP/1.1 by TLS and HTTP/2 by TLS, on 127.0.0.1 and ::1', async () => {
    for (const address of ['127.0.0.1', '[::1]']) {
      const plain = await fetch(`http://${address}:${port}/health`);
      expect(plain.status).toBe(200);
      const asked = requestTls(`https://${address}:${port}/health`, {
        ...{ ca, servername: 'localhost', agent: false },
      }).end();
      const [answer] = (await once(asked, 'response')) as [IncomingMessage];
      expect([answer.statusCode, answer.httpVersion]).toEqual([200, '1.1']);
      answer.resume();
      const other = connect(`https://${address}:${port}`, { ca, servername: 'localhost' });
      expect((await ask('localhost', { ':path': '/health' }, other)).headers[':status']).toBe(200);
      other.destroy();
    }
  });

  test('gives the domain by which a client came, and its API is below it', async () => {
    const answer = await ask('api.perch.test', {
      ':path': `/sandboxes/${box.sandboxID}`,
      'x-api-key': plane.key,
    });
    expect(JSON.parse(answer.text).domain).toBe(`perch.test:${port}`);
    const missing = await ask('api.perch.test', { ':path': '/sandboxes/none', 'x-api-key': plane.key });
    expect([missing.headers[':status'], JSON.parse(missing.text).code]).toEqual([404, 404]);
    const unknown = await ask('api.perch.test', { ':path': '/nothing' });
    expect(unknown.headers[':status']).toBe(404);
  });

  test('serves a new certificate from the next connection on', async () => {
    const fingerprint = () =>
      new Promise<string>((resolve, reject) => {
        const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
          resolve(socket.getPeerCertificate().fingerprint256);
          socket.destroy();
        });
        socket.once('error', reject);
      });
    const before = await fingerprint();
    ca = await certify(plane.config.tlsDir);
    await eventually(async () => (await fingerprint()) !== before);
    // A connection from before goes on.
    expect((await ask('api.perch.test', { ':path': '/health' })).headers[':status']).toBe(200);
  });
});

describe('a request of HTTP/2', () => {
  test('reaches the program in a sandbox as one of HTTP/1.1', async () => {
    await using program = await WebServer.start(echo);
    const name = host(box.sandboxID, program.port);
    const answer = await ask(name, {
      ':path': '/a%2Fb?x=1',
      ':method': 'PUT',
      ...{ cookie: ['a=1', 'b=2'], 'x-two': 'b', te: 'trailers', body: 'hello' },
    });
    const said = JSON.parse(answer.text);
    expect(said).toMatchObject({ method: 'PUT', url: '/a%2Fb?x=1', body: 'hello' });
    expect(said.headers).toMatchObject({ host: `${name}:${port}`, cookie: 'a=1; b=2', 'x-two': 'b' });
    expect(said.headers['transfer-encoding']).toBe('chunked');
    expect(said.rawHeaders.filter((one: string) => one.startsWith(':') || one === 'te')).toEqual([]);
    expect(said.rawHeaders.slice(0, 2)).toEqual(['Host', `${name}:${port}`]);
  });

  test('by headers goes to the guest agent, with the token of its life', async () => {
    const answer = await ask('sandbox.perch.test', {
      ':method': 'POST',
      ':path': '/process.Process/List',
      ...{ 'e2b-sandbox-id': box.sandboxID, 'e2b-sandbox-port': '49983', body: '{}' },
      'x-access-token': box.envdAccessToken,
    });
    const { access_token } = plane.host.created.find((one) => one.id === box.sandboxID)?.body ?? {};
    expect(JSON.parse(answer.text).headers['x-access-token']).toBe(access_token);
  });

  test('gets the answer with all of its headers, and without those of one connection', async () => {
    await using program = await WebServer.start((_asked, answer) => {
      answer.writeHead(201, 'Made', [
        ...['Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'X-Name', 'Value', 'Keep-Alive', 'timeout=5'],
      ]);
      answer.end('made');
    });
    const { headers, text } = await ask(host(box.sandboxID, program.port));
    expect(headers).toMatchObject({ ':status': 201, 'set-cookie': ['a=1', 'b=2'], 'x-name': 'Value' });
    expect([text, headers['keep-alive'], headers.connection]).toEqual(['made', undefined, undefined]);
  });

  test.each([
    ['HEAD', 200],
    ['GET', 204],
    ['GET', 304],
  ])('%s that is answered %i has no body', async (method, status) => {
    await using program = await WebServer.start((_asked, answer) =>
      answer.writeHead(status, { etag: 'x' }).end(),
    );
    const { headers, text, code } = await ask(host(box.sandboxID, program.port), { ':method': method });
    expect([headers[':status'], headers.etag, text, code]).toEqual([status, 'x', '', 0]);
  });

  test('is answered by the edge where there is no sandbox, or no program', async () => {
    const gone = await ask(host('sb000000000000000000', 80));
    expect([gone.headers[':status'], JSON.parse(gone.text).message]).toEqual([
      502,
      'The sandbox was not found',
    ]);
    const closedPort = await ask(host(box.sandboxID, 1));
    expect(JSON.parse(closedPort.text)).toMatchObject({ code: 502, port: 1 });
  });
});

describe('a stream of HTTP/2', () => {
  test('comes as it is sent, and goes up as it is sent', async () => {
    const asked = Promise.withResolvers<[IncomingMessage, ServerResponse]>();
    await using program = await WebServer.start((incoming, answer) => {
      answer.writeHead(200).flushHeaders();
      asked.resolve([incoming, answer]);
    });
    const stream = open(host(box.sandboxID, program.port), { ':method': 'POST' });
    await once(stream, 'response');
    const [incoming, answer] = await asked.promise;
    for (const text of ['one', 'two']) {
      stream.write(text);
      expect(String((await once(incoming, 'data'))[0])).toBe(text);
      answer.write(text);
      expect(String((await once(stream, 'data'))[0])).toBe(text);
    }
    stream.end();
    await once(incoming, 'end');
    answer.end();
    await once(stream, 'end');
  });

  test('waits with its body until its program says to go on', async () => {
    await using program = await WebServer.start(echo);
    program.server.on('checkContinue', (asked, answer) => {
      if (asked.url !== '/wanted') return void answer.writeHead(413).end();
      answer.writeContinue();
      echo(asked, answer);
    });
    const offer = async (path: string) => {
      const headers = { ':method': 'POST', ':path': path, expect: '100-continue' };
      const stream = open(host(box.sandboxID, program.port), headers);
      let continued = false;
      stream.once('continue', () => {
        continued = true;
        stream.end('body');
      });
      const [head] = (await once(stream, 'response')) as [IncomingHttpHeaders];
      stream.resume();
      stream.end();
      return [head[':status'], continued];
    };
    expect(await offer('/wanted')).toEqual([200, true]);
    expect(await offer('/other')).toEqual([413, false]);
  });

  test('of a sandbox that ends is reset, and what has no answer yet is told', async () => {
    await using program = await WebServer.start((asked, answer) => {
      if (asked.url === '/') answer.write('begun');
    });
    const name = host(box.sandboxID, program.port);
    const stream = open(name, {});
    stream.end();
    await once(stream, 'data');
    const waiting = ask(name, { ':path': '/wait' });
    await eventually(
      () => new Promise<boolean>((resolve) => program.server.getConnections((_e, n) => resolve(n === 2))),
    );
    const ended = closed(stream);
    await plane.fetch(`/sandboxes/${box.sandboxID}`, { method: 'DELETE' });
    await ended;
    expect(stream.rstCode).toBe(constants.NGHTTP2_INTERNAL_ERROR);
    expect((await waiting).headers[':status']).toBe(502);
    // The connection is as good as before.
    expect((await ask('api.perch.test', { ':path': '/health' })).headers[':status']).toBe(200);
  });

  test('that its program breaks off is reset', async () => {
    await using program = await WebServer.start((_asked, answer) => {
      answer.writeHead(200, { 'content-length': '100' });
      answer.write('some', () => answer.destroy());
    });
    expect((await ask(host(box.sandboxID, program.port))).code).toBe(constants.NGHTTP2_INTERNAL_ERROR);
  });

  test('whose client goes away ends at its program', async () => {
    const ended = Promise.withResolvers<void>();
    await using program = await WebServer.start((_asked, answer) => {
      answer.on('close', ended.resolve).write('begun');
    });
    const stream = open(host(box.sandboxID, program.port), {});
    stream.end();
    await once(stream, 'data');
    stream.close(constants.NGHTTP2_CANCEL);
    await ended.promise;
  });

  test('is taken after many answers that their client broke off', async () => {
    const block = Buffer.alloc(1024 * 1024);
    await using program = await WebServer.start((asked, answer) => {
      if (asked.url === '/small') answer.end('whole');
      else answer.write(block);
    });
    const name = host(box.sandboxID, program.port);
    const own = h2();
    const breakOff = async () => {
      const stream = open(name, {}, own);
      stream.end();
      // All that a client takes of a stream that it does not read, and the server has more of.
      await Promise.race([once(stream, 'readable'), closed(stream)]);
      await eventually(() => stream.closed || stream.readableLength >= windowBytes);
      stream.close(constants.NGHTTP2_CANCEL);
      await closed(stream);
    };
    for (let at = 0; at < 8; at++) await Promise.all(Array.from({ length: 50 }, breakOff));
    expect((await ask(name, { ':path': '/small' }, own)).text).toBe('whole');
    own.destroy();
  });

  test('of which its client wants no more ends at a program that reads no body', async () => {
    let from = 0;
    await using program = await WebServer.start((asked, answer) => {
      from = asked.socket.remotePort ?? 0;
      answer.write('begun');
    });
    const stream = open(host(box.sandboxID, program.port), { ':method': 'POST' });
    const answered = once(stream, 'response');
    await fill(stream);
    await answered;
    expect(await isOpen(from)).toBe(true);
    stream.close(constants.NGHTTP2_NO_ERROR);
    await eventually(async () => !(await isOpen(from)));
  });

  test.each([
    [constants.NGHTTP2_NO_ERROR, undefined],
    [constants.NGHTTP2_INTERNAL_ERROR, new Error('gone')],
  ])(
    'that its client resets with code %i in its body is no whole one for its program',
    async (code, error) => {
      const [begun, over] = [Promise.withResolvers<void>(), Promise.withResolvers<boolean>()];
      await using program = await WebServer.start((asked) => {
        asked.once('data', () => begun.resolve()).once('close', () => over.resolve(asked.complete));
      });
      const stream = open(host(box.sandboxID, program.port), { ':method': 'POST' });
      stream.write('some');
      await begun.promise;
      stream.destroy(error);
      expect(await over.promise).toBe(false);
      expect(stream.rstCode).toBe(code);
    },
  );

  test('has its end though its program answers and reads no body', async () => {
    await using program = await WebServer.start((_asked, answer) => {
      answer.writeHead(200, { 'content-length': 5 }).write('whole');
    });
    const name = host(box.sandboxID, program.port);
    const answer = await ask(name, { ':method': 'POST', body: 'x'.repeat(96 * 65_536) });
    expect([answer.text, answer.code]).toEqual(['whole', constants.NGHTTP2_NO_ERROR]);
  });

  test('whose client never reads holds up its program, and no other stream', async () => {
    let written = 0;
    await using program = await WebServer.start((_asked, answer) => {
      const chunk = Buffer.alloc(65_536);
      const write = () => {
        for (let more = true; more; written += chunk.length) more = answer.write(chunk);
      };
      answer.on('drain', write);
      write();
    });
    const stream = open(host(box.sandboxID, program.port), {});
    stream.end();
    await once(stream, 'response');
    let before = -1;
    await eventually(async () => {
      const still = written === before;
      before = written;
      await new Promise((resolve) => setTimeout(resolve, 200));
      return still;
    });
    expect(written).toBeLessThan(64 * 1024 * 1024);
    expect((await ask('api.perch.test', { ':path': '/health' })).headers[':status']).toBe(200);
    stream.close(constants.NGHTTP2_CANCEL);
  });
});

describe('gRPC', () => {
  type Serve = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;
  /** A program that speaks HTTP/2 in plain text and nothing else. */
  async function serve(onStream: Serve) {
    const server = createH2cServer();
    const sessions = new Set<{ readonly destroyed: boolean; destroy(): void }>();
    server.on('session', (one) => sessions.add(one.on('error', () => {})));
    server.on('stream', (stream, headers) => onStream(stream.on('error', () => {}) as never, headers));
    server.listen(0, '0.0.0.0');
    await once(server, 'listening');
    return {
      name: host(box.sandboxID, (server.address() as AddressInfo).port),
      sessions,
      async [Symbol.asyncDispose]() {
        for (const one of sessions) one.destroy();
        await new Promise((resolve) => server.close(resolve));
      },
    };
  }
  const call = (name: string, more: OutgoingHttpHeaders = {}) =>
    open(name, {
      ...{ ':method': 'POST', ':path': '/a.Service/Call', 'content-type': 'application/grpc+proto' },
      ...{ te: 'trailers', ...more },
    });

  test('goes both ways as it is sent, and its end is in its trailers', async () => {
    let seen: IncomingHttpHeaders = {};
    await using program = await serve((stream, headers) => {
      seen = headers;
      stream.respond({ 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'x-odd': 'b' }));
      stream.pipe(stream);
    });
    const stream = call(program.name, { 'x-api': 'y', 'e2b-traffic-access-token': 'none of its business' });
    const trailers = once(stream, 'trailers') as Promise<[IncomingHttpHeaders]>;
    await once(stream, 'response');
    for (const text of ['one', 'two']) {
      stream.write(text);
      expect(String((await once(stream, 'data'))[0])).toBe(text);
    }
    stream.end();
    expect((await trailers)[0]).toMatchObject({ 'grpc-status': '0', 'x-odd': 'b' });
    await closed(stream);
    expect(seen).toMatchObject({ te: 'trailers', 'x-api': 'y', ':path': '/a.Service/Call' });
    expect(seen).not.toHaveProperty('e2b-traffic-access-token');
  });

  test('that fails before anything else has its head for its end', async () => {
    await using program = await serve((stream) => {
      stream.respond({ 'content-type': 'application/grpc', 'grpc-status': '5' }, { endStream: true });
    });
    const stream = call(program.name);
    stream.resume().end();
    const [head, flags] = (await once(stream, 'response')) as [IncomingHttpHeaders, number];
    expect([head['grpc-status'], flags & constants.NGHTTP2_FLAG_END_STREAM]).toEqual(['5', 1]);
  });

  test('that its program resets, or its client leaves, or whose sandbox ends, is reset', async () => {
    const gone = Promise.withResolvers<void>();
    await using program = await serve((stream, headers) => {
      stream.respond({ 'content-type': 'application/grpc' });
      stream.write('begun');
      if (headers['x-then'] === 'reset') setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), 50);
      if (headers['x-then'] === 'leave') stream.on('close', gone.resolve);
    });
    const begun = async (then: string) => {
      const stream = call(program.name, { 'x-then': then });
      await once(stream, 'data');
      return stream;
    };
    const broken = await begun('reset');
    await closed(broken);
    expect(broken.rstCode).toBe(constants.NGHTTP2_INTERNAL_ERROR);
    (await begun('leave')).close(constants.NGHTTP2_CANCEL);
    await gone.promise;
    const last = await begun('stay');
    await plane.fetch(`/sandboxes/${box.sandboxID}`, { method: 'DELETE' });
    await closed(last);
    expect(last.rstCode).toBe(constants.NGHTTP2_INTERNAL_ERROR);
  });

  test('that has ended while its body is unread leaves nothing at its program', async () => {
    await using program = await serve((stream) => {
      stream.pause().respond({ ':status': 200 }, { waitForTrailers: true });
      stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' })).end('begun');
    });
    const stream = open(program.name, { ':method': 'POST', 'content-type': 'application/grpc' });
    const over = once(stream.resume(), 'end');
    await fill(stream);
    await over;
    stream.close(constants.NGHTTP2_NO_ERROR);
    await eventually(() => [...program.sessions].every((one) => one.destroyed));
  });

  test('to a program that speaks something else, or to none, is 502', async () => {
    await using other = await WebServer.start(echo);
    const asked = async (at: number) => {
      const stream = call(host(box.sandboxID, at));
      stream.resume().end();
      const [head] = (await once(stream, 'response')) as [IncomingHttpHeaders];
      await closed(stream);
      return head[':status'];
    };
    expect(await asked(other.port)).toBe(502);
    expect(await asked(1)).toBe(502);
  });
});

/** Fields of a head as HPACK has them: literals, of which nothing is kept. */
const fields = (...pairs: [name: string, value: string][]) =>
  Buffer.concat(
    pairs
      .flat()
      .map((text, at) => Buffer.from(`${at % 2 === 0 ? '\0' : ''}${lengthOf(text)}${text}`, 'latin1')),
  );
const lengthOf = (text: string) => String.fromCharCode(text.length);
const frame = (type: number, flags: number, id: number, payload: Buffer) => {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
};
const [endStream, endHeaders] = [1, 4];
const [head, reset, settings, promise] = [1, 3, 4, 5];
const ok: [string, string][] = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
];
const odd: [string, string] = ['http2-settings', 'x'];
const end = frame(head, endHeaders | endStream, 1, fields(['grpc-status', '0']));
const asked: [string, string][] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'a'],
];

/** Whether the head of the first call has come, type, flags and stream. */
const hasCall = (come: Buffer) => /\x01[\x04\x05\x24\x25]\0{3}\x01/.test(come.toString('latin1'));

test.each<[string, Buffer[]]>([
  ['a head of another connection', [frame(head, endHeaders, 1, fields(...ok, odd)), end]],
  ['an end of another connection', [frame(head, endHeaders | endStream, 1, fields(...ok, odd))]],
  [
    'trailers of another connection',
    [frame(head, endHeaders, 1, fields(...ok)), frame(head, endHeaders | endStream, 1, fields(odd))],
  ],
  [
    'an answer that nobody asked for',
    [
      frame(promise, endHeaders, 1, Buffer.concat([Buffer.from([0, 0, 0, 2]), fields(...asked)])),
      frame(reset, 0, 2, Buffer.from([0, 0, 0, 2])),
      frame(head, endHeaders | endStream, 1, fields(...ok)),
    ],
  ],
])('a program of gRPC that sends %s harms nobody else', async (_name, frames) => {
  const program = createServer((socket) => {
    let come = Buffer.alloc(0);
    socket.on('error', () => {}).write(frame(settings, 0, 0, Buffer.alloc(0)));
    socket.on('data', (chunk: Buffer) => {
      const had = hasCall(come);
      come = Buffer.concat([come, chunk]);
      if (!had && hasCall(come)) socket.write(Buffer.concat(frames));
    });
  });
  program.listen(0, '0.0.0.0');
  await once(program, 'listening');
  const name = host(box.sandboxID, (program.address() as AddressInfo).port);
  const stream = open(name, {
    ...{ ':method': 'POST', ':path': '/a.Service/Call', 'content-type': 'application/grpc', te: 'trailers' },
  });
  stream.resume().end();
  await closed(stream);
  expect((await ask('api.perch.test', { ':path': '/health' })).headers[':status']).toBe(200);
  program.close();
});

test('trailers that HTTP/2 cannot say are dropped', async () => {
  await using program = await WebServer.start((incoming) => {
    incoming.socket.end(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nbody\r\n0\r\n' +
        `${incoming.url === '/odd' ? 'HTTP2-Settings: x' : 'ETag: a\r\nETag: b'}\r\n\r\n`,
    );
  });
  for (const path of ['/odd', '/twice']) {
    const answer = await ask(host(box.sandboxID, program.port), { ':path': path });
    expect([answer.text, answer.code]).toEqual(['body', constants.NGHTTP2_NO_ERROR]);
  }
});

test('trailers are passed on both ways, and none that have a meaning before a body', async () => {
  const asked = Promise.withResolvers<IncomingMessage>();
  await using program = await WebServer.start((incoming, answer) => {
    incoming.resume().on('end', () => {
      asked.resolve(incoming);
      answer.writeHead(200, { trailer: 'x-sum, set-cookie' });
      answer.write('body');
      answer.addTrailers({ 'X-Sum': '4', 'Set-Cookie': 'a=b' });
      answer.end();
    });
  });
  const stream = session.request(
    { ':method': 'POST', ':authority': `${host(box.sandboxID, program.port)}:${port}` },
    { waitForTrailers: true, endStream: false },
  );
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-hash': 'abc', 'x-access-token': 'x' }));
  const trailers = once(stream, 'trailers') as Promise<[IncomingHttpHeaders]>;
  stream.resume().end('sent');
  expect((await asked.promise).trailers).toEqual({ 'x-hash': 'abc' });
  expect(Object.entries((await trailers)[0])).toEqual([['x-sum', '4']]);
});

test('a WebSocket by HTTP/2 is not offered, and whoever asks for one all the same is refused alone', async () => {
  await using program = await WebServer.start(echo);
  expect(session.remoteSettings.enableConnectProtocol).not.toBe(true);
  const connecting = session.request({
    ':method': 'CONNECT',
    ':authority': `${host(box.sandboxID, program.port)}:${port}`,
  });
  const [head] = (await once(connecting.resume(), 'response')) as [IncomingHttpHeaders];
  expect(head[':status']).toBe(405);
  await using raw = await RawH2.open(port, ca);
  raw.request(host(box.sandboxID, program.port), { ':method': 'CONNECT', ':protocol': 'websocket' });
  expect(await raw.reset()).toBeGreaterThan(0);
  expect((await ask(host(box.sandboxID, program.port))).headers[':status']).toBe(200);
});

test('a WebSocket goes both ways by TLS, and ends with the life', async () => {
  await using program = await WebServer.start(echo);
  const sockets = new WebSocketServer({ server: program.server });
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(`got ${data}`)));
  const socket = new WebSocket(`wss://127.0.0.1:${port}/`, {
    ...{ ca, servername: 'localhost', headers: { host: host(box.sandboxID, program.port) } },
  });
  await once(socket, 'open');
  socket.send('this');
  expect(String((await once(socket, 'message'))[0])).toBe('got this');
  const end = once(socket, 'close');
  await plane.fetch(`/sandboxes/${box.sandboxID}`, { method: 'DELETE' });
  expect((await end)[0]).toBe(1006);
});

describe('bad input', () => {
  const toPort = (at: number) => host(box.sandboxID, at);

  test.each([
    ['transfer-encoding', { 'transfer-encoding': 'chunked' }],
    ['connection', { connection: 'x' }],
    ['upgrade', { upgrade: 'websocket' }],
    ['a length that is not its own', { 'content-length': '4', body: 'five5' }],
  ])('%s in a request of HTTP/2 reaches no program', async (_name, headers) => {
    let asked = 0;
    await using program = await WebServer.start((incoming, answer) => {
      incoming.on('end', () => asked++).resume();
      answer.end();
    });
    await using raw = await RawH2.open(port, ca);
    raw.request(toPort(program.port), headers);
    expect(await raw.reset()).toBeGreaterThan(0);
    expect(asked).toBe(0);
  });

  test('an authority that is not the host is no request', async () => {
    await using program = await WebServer.start(echo);
    const answer = await ask(toPort(program.port), { host: 'another' });
    expect(answer.headers[':status']).toBe(400);
  });

  test('10,000 headers or one of 64 KiB are too many, and other streams go on', async () => {
    const many = Array.from({ length: 10_000 }, (_, i): [string, string] => [`x-${i}`, 'y']);
    const long = Array.from({ length: 600 }, (): [string, string] => ['x', 'y'.repeat(110)]);
    for (const headers of [many, long, many.slice(0, 300)]) {
      await using raw = await RawH2.open(port, ca);
      raw.request('api.perch.test', { 'x-api-key': plane.key }, headers);
      expect(await raw.reset()).toBeGreaterThan(0);
    }
    expect((await ask('api.perch.test', { ':path': '/health' })).headers[':status']).toBe(200);
  });

  test('a body that never ends holds up nobody else', async () => {
    await using program = await WebServer.start((asked, answer) => {
      asked.resume();
      answer.writeHead(200).flushHeaders();
    });
    const stream = open(toPort(program.port), { ':method': 'POST' });
    const chunk = Buffer.alloc(65_536);
    let sent = 0;
    const write = () => {
      for (let more = true; more && !stream.destroyed; sent += chunk.length) more = stream.write(chunk);
    };
    stream.on('drain', write);
    write();
    await once(stream, 'response');
    await eventually(() => sent > 16 * 1024 * 1024);
    expect((await ask('api.perch.test', { ':path': '/health' })).headers[':status']).toBe(200);
    stream.close(constants.NGHTTP2_CANCEL);
  });

  test('a body that its program never reads waits at its client, and others of the connection do not', async () => {
    await using program = await WebServer.start((asked, answer) => {
      if (asked.url === '/') asked.pause();
      else asked.resume().on('end', () => answer.end('read'));
    });
    const stream = open(toPort(program.port), { ':method': 'POST' });
    await fill(stream);
    expect(stream.writableLength).toBeGreaterThan(65_536);
    const other = await ask(toPort(program.port), {
      ':method': 'POST',
      ':path': '/other',
      body: 'x'.repeat(1_000_000),
    });
    expect(other.text).toBe('read');
    stream.close(constants.NGHTTP2_CANCEL);
  });

  test('streams that are opened only to be reset end their connection, and no other', async () => {
    let asked = 0;
    await using program = await WebServer.start(() => {
      asked++;
    });
    await using raw = await RawH2.open(port, ca);
    for (let id = 1; id < 20_000; id += 2) raw.opened(toPort(program.port), id);
    expect(await raw.ended()).toBe(true);
    expect(asked).toBeLessThan(10_000);
    expect((await ask('api.perch.test', { ':path': '/health' })).headers[':status']).toBe(200);
  });

  test('a TLS client of something else is told, and bytes that are none are cut', async () => {
    const socket = connectTls({
      port,
      host: '127.0.0.1',
      ca,
      ALPNProtocols: ['smtp'],
      servername: 'localhost',
    });
    expect(String(await once(socket, 'error').catch((error: unknown) => error))).toMatch(
      /no application protocol/,
    );
    expect(await sendRaw(plane.url, '\x16\x03\x01\x00\x05nonsense')).toHaveLength(7);
    expect(await sendRaw(plane.url, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
  });

  test('half of a first byte, and a client that leaves, leave nothing behind', async () => {
    const socket = connectTcp(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.end();
    await once(socket, 'close');
    expect((await fetch(`${plane.url}/health`)).status).toBe(200);
  });
});

test('perchd ends in time though clients stay connected, and streams of sandboxes are reset', async () => {
  await using program = await WebServer.start((_asked, answer) => answer.write('begun'));
  const stream = open(host(box.sandboxID, program.port), {});
  stream.end();
  await once(stream, 'data');
  const silent = connectTcp(port, '127.0.0.1').on('error', () => {});
  const idle = connectTls({ port, host: '127.0.0.1', ca, servername: 'localhost' }).on('error', () => {});
  const shaking = connectTcp(port, '127.0.0.1', () => shaking.write('\x16')).on('error', () => {});
  await Promise.all([once(idle, 'secureConnect'), once(silent, 'connect'), once(shaking, 'connect')]);
  await fetch(`${plane.url}/health`);
  const ended = closed(stream);
  await plane.down();
  await ended;
  expect(stream.rstCode).toBe(constants.NGHTTP2_INTERNAL_ERROR);
  expect(plane.logLines.filter((line) => line.includes('cutting requests'))).toEqual([]);
  for (const socket of [silent, idle, shaking]) socket.destroy();
  await plane.up();
});
