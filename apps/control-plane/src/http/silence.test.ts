import { once } from 'node:events';
import { mkdtempDisposable } from 'node:fs/promises';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { type ClientHttp2Session, connect, constants, type Http2ServerRequest } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { certify } from '../testing/certificate.ts';
import { CertificateFile, Listener } from './listener/index.ts';
import { cutSilence } from './silence.ts';

const silenceMs = 300;

async function serve(onRequest: (request: IncomingMessage, response: ServerResponse) => void) {
  const folder = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const ca = await certify(folder.path);
  const http1 = createServer(onRequest);
  new Listener({
    ...{ http1, onRequest, beginWithinMs: 60_000, handshakeWithinMs: 60_000, idleMs: 60_000 },
    certificate: new CertificateFile(folder.path, pino({ level: 'silent' })),
  });
  http1.listen(0, '127.0.0.1');
  await once(http1, 'listening');
  const { port } = http1.address() as AddressInfo;
  const session = connect(`https://127.0.0.1:${port}`, { ca, servername: 'localhost' });
  return {
    port,
    session,
    async [Symbol.asyncDispose]() {
      session.destroy();
      http1.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

function upload(session: ClientHttp2Session) {
  const stream = session.request({ ':method': 'POST', ':path': '/' }).on('error', () => {});
  stream.write('some');
  return stream;
}

test('a stream of HTTP/2 that is silent is reset with an error, though others of its connection are not', async () => {
  await using server = await serve((asked, response) => {
    if (asked.url === '/') cutSilence(asked.resume(), response, silenceMs);
    else asked.pipe(response);
  });
  const busy = server.session.request({ ':method': 'POST', ':path': '/busy' }).resume();
  const writes = setInterval(() => busy.write('more'), silenceMs / 20);
  const silent = upload(server.session);
  await new Promise((resolve) => silent.once('close', resolve));
  clearInterval(writes);
  expect(silent.rstCode).toBe(constants.NGHTTP2_INTERNAL_ERROR);
  expect(busy.closed).toBe(false);
});

test('and leaves nothing at its connection when it has ended', async () => {
  let session: Http2ServerRequest['stream']['session'];
  await using server = await serve((asked, response) => {
    ({ session } = (asked as unknown as Http2ServerRequest).stream);
    const silence = cutSilence(asked, response);
    asked.resume().once('end', () => {
      silence[Symbol.dispose]();
      response.end();
    });
  });
  for (let i = 0; i < 3; i++) {
    const stream = upload(server.session).resume();
    stream.end();
    await once(stream, 'close');
    expect(stream.rstCode).toBe(constants.NGHTTP2_NO_ERROR);
  }
  expect(session?.listenerCount('timeout')).toBe(0);
});

test('a connection of HTTP/1.1 that is silent is cut', async () => {
  await using server = await serve((asked, response) => void cutSilence(asked.resume(), response, silenceMs));
  const sent = request({ port: server.port, host: '127.0.0.1', method: 'POST' });
  sent.write('some');
  expect(await once(sent, 'close').catch((error: NodeJS.ErrnoException) => error.code)).toBe('ECONNRESET');
});
