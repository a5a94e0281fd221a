import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect as connectH2 } from 'node:http2';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { certify } from '../../testing/certificate.ts';
import { CertificateFile } from './certificate-file.ts';
import { Listener } from './listener.ts';

const withinMs = 300;
let dir: string;
let ca: Buffer;
let port: number;
const http1 = createServer({ headersTimeout: 60_000 }, (_request, response) => response.end());

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'perch-test-'));
  ca = await certify(dir);
  new Listener({
    http1,
    onRequest: (_request, response) => response.end('answered'),
    certificate: new CertificateFile(dir, pino({ level: 'silent' })),
    ...{ beginWithinMs: withinMs, handshakeWithinMs: withinMs },
  });
  http1.listen(0, '127.0.0.1');
  await once(http1, 'listening');
  ({ port } = http1.address() as AddressInfo);
});
afterAll(async () => {
  http1.close();
  await rm(dir, { recursive: true });
});

const tcp = () => connect(port, '127.0.0.1').on('error', () => {});
const tls = (protocol: string) =>
  connectTls({ port, host: '127.0.0.1', ca, servername: 'localhost', ALPNProtocols: [protocol] });

/** Milliseconds until it is closed. */
async function lifeOf(socket: Socket): Promise<number> {
  const begun = performance.now();
  socket.on('error', () => {}).resume();
  await once(socket, 'close');
  return performance.now() - begun;
}

test.each([
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
  expect(ms).toBeLessThan(withinMs + 5_000);
});

test('a connection of HTTP/2 that has asked for something stays', async () => {
  const session = connectH2(`https://127.0.0.1:${port}`, { ca, servername: 'localhost' });
  const ask = async () => {
    const stream = session.request({ ':path': '/' });
    stream.resume();
    await once(stream, 'close');
    return stream.rstCode;
  };
  expect(await ask()).toBe(0);
  await new Promise((resolve) => setTimeout(resolve, withinMs * 3));
  expect(session.closed).toBe(false);
  expect(await ask()).toBe(0);
  const closed = once(session, 'close');
  session.close();
  await closed;
});
