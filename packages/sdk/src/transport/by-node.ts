import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { drainedOrClosed } from '@perch/node-kit';
import { connectTimeout } from '../errors.ts';
import { connections } from './connections.ts';
import type { Answer, Body, BodyReader, Transport } from './transport.ts';

const connectMs = 10_000;

/** By the word of the connection a proxy that would lose them takes the offer out (RFC 9110, 10.1.4). */
const takesTrailers = { te: 'trailers', connection: 'TE' };

export const byNode: Transport = async (target, { method, headers, body, signal, trailers }) => {
  const all = trailers ? { ...headers, ...takesTrailers } : headers;
  const options = { method, headers: body instanceof Blob ? sized(all, body) : all };
  const outgoing = target.startsWith('https:')
    ? (await import('./by-node-tls.ts')).requestByTls(target, options)
    : request(target, { ...options, agent: connections.fresh() });
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  let incoming: IncomingMessage | undefined;
  const cancel = () => {
    reject(signal?.reason);
    (incoming ?? outgoing).destroy(signal?.reason);
  };
  outgoing.on('error', reject);
  limitConnecting(outgoing);
  outgoing.once('close', () => {
    signal?.removeEventListener('abort', cancel);
    reject(new Error('closed without an answer'));
  });
  outgoing.once('response', (message) => {
    incoming = message;
    // Whoever reads it is told.
    message.on('error', () => {});
    message.once('close', () => endSending(outgoing));
    resolve(answerOf(target, message));
  });
  signal?.addEventListener('abort', cancel, { once: true });
  if (signal?.aborted) cancel();
  else void send(outgoing, body);
  return promise;
};

/** The system would try for two minutes. */
function limitConnecting(outgoing: ClientRequest): void {
  outgoing.once('socket', (socket) => {
    if (!socket.connecting) return;
    const late = () =>
      outgoing.destroy(Object.assign(new Error('no connection in time'), { code: connectTimeout }));
    const timer = setTimeout(late, connectMs);
    for (const event of ['connect', 'close']) socket.once(event, () => clearTimeout(timer));
  });
}

function sized(headers: Record<string, string>, { size }: Blob): Record<string, string> {
  return { ...headers, 'content-length': String(size) };
}

async function send(outgoing: ClientRequest, body: Body | undefined): Promise<void> {
  // Bytes go out from where they are, and with their length.
  if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) {
    outgoing.end(body);
    return;
  }
  const source: AsyncIterable<Uint8Array> = body instanceof Blob ? body.stream() : body;
  const chunks = source[Symbol.asyncIterator]();
  // It may wait for its next chunk for ever.
  outgoing.once('close', () => void Promise.resolve(chunks.return?.()).catch(() => {}));
  try {
    for (;;) {
      const { done, value } = await chunks.next();
      if (outgoing.destroyed) return;
      if (done) break;
      if (!outgoing.write(value)) await drainedOrClosed(outgoing);
    }
    outgoing.end();
  } catch (error) {
    outgoing.destroy(error as Error);
  }
}

/** Of a body that is answered before its end nobody takes the rest, and its connection can carry nothing else. */
function endSending(outgoing: ClientRequest): void {
  // The system may tell of the answer before it tells that all was sent.
  setImmediate(() => {
    if (!outgoing.writableFinished) outgoing.destroy();
  });
}

function answerOf(url: string, message: IncomingMessage): Answer {
  const status = message.statusCode ?? 0;
  return {
    ok: status >= 200 && status < 300,
    status,
    url,
    header(name) {
      const value = message.headers[name];
      return Array.isArray(value) ? value.join(', ') : value;
    },
    trailer: (name) => message.trailers[name],
    async text() {
      message.setEncoding('utf8');
      let text = '';
      for await (const piece of message) text += piece;
      return text;
    },
    reader: () => readerOf(message),
    async drop() {
      const isEmpty = status === 204 || message.headers['content-length'] === '0';
      if (message.closed) return;
      if (!isEmpty && !message.complete) message.destroy();
      else await new Promise((resolve) => message.once('close', resolve).resume());
    },
  };
}

function readerOf(message: IncomingMessage): BodyReader {
  const chunks: AsyncIterator<Uint8Array<ArrayBuffer>> = message[Symbol.asyncIterator]();
  return {
    async read() {
      const { done, value } = await chunks.next();
      return done ? { done: true } : { done: false, value };
    },
    async cancel() {
      message.destroy();
    },
  };
}
