import { once } from 'node:events';
import { mkdtemp, mkdtempDisposable, rm, symlink } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { connect as connectH2, constants } from 'node:http2';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { certify } from '../../testing/certificate.ts';
import { CertificateFile } from './certificate-file.ts';
import { Listener } from './listener.ts';

/** Long enough for a handshake on a busy machine. */
const withinMs = 1_500;
const idleMs = 2_000;
let dir: string;
let ca: Buffer;
let port: number;
const held = Promise.withResolvers<ServerResponse>();
const left = { asked: Promise.withResolvers<void>(), told: Promise.withResolvers<void>() };
const servers: Server[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'perch-test-'));
  ca = await certify(dir);
  port = await listen(idleMs);
});
afterAll(async () => {
  for (const server of servers) server.close();
  await rm(dir, { recursive: true });
});

/** @returns its port */
async function listen(idleMs: number): Promise<number> {
  const http1 = createServer({ headersTimeout: 60_000 }, (_request, response) => response.end());
  servers.push(http1);
  new Listener({
    http1,
    onRequest: (request, response) => {
      if (request.url === '/held') held.resolve(response);
      else if (request.url === '/held/too') response.write('begun');
      else if (request.url === '/left') {
        request.pause().once('aborted', () => {
          left.told.resolve(new Promise((resolve) => resolve(response.writeContinue())));
        });
        left.asked.resolve();
      } else response.end('answered');
    },
    certificate: new CertificateFile(dir, pino({ level: 'silent' })),
    ...{ beginWithinMs: withinMs, handshakeWithinMs: withinMs, idleMs },
  });
  http1.listen(0, '127.0.0.1');
  await once(http1, 'listening');
  return (http1.address() as AddressInfo).port;
}

const tcp = () => connect(port, '127.0.0.1').on('error', () => {});
const tls = (protocol: string) =>
  connectTls({ port, host: '127.0.0.1', ca, servername: 'localhost', ALPNProtocols: [protocol] });

/** Milliseconds until it is closed. */
async function lifeOf(socket: Socket): Promise<number> {
  const begun = performance.now();
  socket.on('error', () => {}).resume();
  await new Promise((resolve) => socket.once('close', resolve));
  return performance.now() - begun;
}

test.concurrent.each([
  ['says nothing', () => tcp()],
  [
    'stops in its hello',
    () =>
      ((socket) => {
        socket.write('\x16\x03\x01');
        return socket;
      })(tcp()),
  ],
  ['says nothing after its handshake', () => tls('http/1.1')],
  ['asks for nothing by HTTP/2', () => tls('h2')],
])('a connection that %s is closed', async (_name, open) => {
  const ms = await lifeOf(open());
  expect(ms).toBeGreaterThan(withinMs * 0.5);
});

test('a connection of HTTP/2 that has asked for something stays', async () => {
  const session = connectH2(`https://127.0.0.1:${await listen(600_000)}`, { ca, servername: 'localhost' });
  const ask = async () => {
    const stream = session.request({ ':path': '/' });
    stream.resume();
    await once(stream, 'close');
    return stream.rstCode;
  };
  expect(await ask()).toBe(0);
  await new Promise((resolve) => setTimeout(resolve, withinMs * 1.2));
  expect(session.closed).toBe(false);
  expect(await ask()).toBe(0);
  const closed = once(session, 'close');
  session.close();
  await closed;
});

test('a connection of HTTP/2 that only sends pings is closed, and one with a stream is not', async () => {
  const session = connectH2(`https://127.0.0.1:${port}`, { ca, servername: 'localhost' });
  const pings = setInterval(() => {
    if (!session.destroyed) session.ping(() => {});
  }, 50);
  const stream = session.request({ ':path': '/held/too' });
  await once(stream, 'response');
  await new Promise((resolve) => setTimeout(resolve, idleMs * 1.2));
  expect(session.closed).toBe(false);
  stream.close();
  await once(session, 'close');
  clearInterval(pings);
});

test('a connection of HTTP/2 whose client stays when it is told to leave is cut', async () => {
  const socket = connectTls({
    ...{ port, host: '127.0.0.1', ca, servername: 'localhost', ALPNProtocols: ['h2'], allowHalfOpen: true },
  });
  await once(socket, 'secureConnect');
  const ping = Buffer.from('0000080600000000000102030405060708', 'hex');
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  socket.write(Buffer.from('000000040000000000', 'hex'));
  const pings = setInterval(() => socket.write(ping), 50);
  await lifeOf(socket);
  clearInterval(pings);
});

test('a client of HTTP/2 that has left is told to go on in vain', async () => {
  const session = connectH2(`https://127.0.0.1:${port}`, { ca, servername: 'localhost' });
  const stream = session.request({ ':path': '/left', ':method': 'POST' }).on('error', () => {});
  await left.asked.promise;
  stream.close(constants.NGHTTP2_NO_ERROR);
  await left.told.promise;
  session.destroy();
});

test('an answer of HTTP/2 whose client has gone says so, as one of HTTP/1.1', async () => {
  const session = connectH2(`https://127.0.0.1:${port}`, { ca, servername: 'localhost' });
  const stream = session.request({ ':path': '/held' }).on('error', () => {});
  const response = await held.promise;
  expect(response.destroyed).toBe(false);
  const closed = once(response, 'close');
  stream.close(constants.NGHTTP2_CANCEL);
  await closed;
  expect(response.destroyed).toBe(true);
  session.destroy();
});

/** Listens for TLS without a certificate. */
async function listenBare(handshakeWithinMs: number) {
  const folder = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const server = createServer();
  const listener = new Listener({
    ...{ http1: server, onRequest: () => {}, beginWithinMs: 60_000, handshakeWithinMs, idleMs },
    certificate: new CertificateFile(folder.path, pino({ level: 'silent' })),
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    server,
    listener,
    /** A client that has said hello, was told no, and stays. */
    async refused() {
      const at = { port: (server.address() as AddressInfo).port, host: '127.0.0.1' };
      const accepted = once(server, 'connection') as Promise<[Socket]>;
      const socket = connect({ ...at, allowHalfOpen: true }).on('error', () => {});
      const [own] = await accepted;
      socket.write('\x16\x03\x01');
      expect((await once(socket, 'data'))[0]).toEqual(Buffer.from([0x15, 3, 3, 0, 2, 2, 40]));
      return { own, [Symbol.dispose]: () => void socket.destroy() };
    },
    async [Symbol.asyncDispose]() {
      server.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

test('a TLS client is told where there is no certificate, and is cut when it stays', async () => {
  await using bare = await listenBare(withinMs);
  using client = await bare.refused();
  await once(client.own, 'close');
});

test('and it keeps no server from closing', async () => {
  await using bare = await listenBare(60_000);
  using _ = await bare.refused();
  const closed = once(bare.server, 'close');
  bare.listener.close();
  bare.server.close();
  await closed;
});

test('a certificate that cannot be looked at is none', async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const path = join(folder.path, 'server.pem');
  await symlink(path, path);
  const file = new CertificateFile(folder.path, pino({ level: 'silent' }));
  expect([file.get(), file.domain]).toEqual([undefined, undefined]);
});
