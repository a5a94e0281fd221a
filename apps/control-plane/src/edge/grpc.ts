/** gRPC. Its servers speak HTTP/2 and nothing else, in plain text by prior knowledge (RFC 9113, 3.3). */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type ClientHttp2Session, connect, constants, type IncomingHttpHeaders } from 'node:http2';
import type { Socket } from 'node:net';
import type { Failure, Route } from './forward.ts';
import { byName, isOfOneConnection } from './headers.ts';

const { NGHTTP2_CANCEL, NGHTTP2_FLAG_END_STREAM, NGHTTP2_REFUSED_STREAM } = constants;
/** Of one connection, or said by HTTP/2 in another way. */
const unsaid: ReadonlySet<string> = new Set(['host', 'transfer-encoding', 'expect', 'content-length']);

/** What Node has of a stream in C++, with that of its session, which stays as long. */
const sessions = new FinalizationRegistry(() => {});

/** Its form for browsers is like any other request. */
export function isGrpc({ httpVersionMajor, headers }: IncomingMessage): boolean {
  return (
    httpVersionMajor === 2 &&
    /^application\/grpc(?:\+[\w.-]+)?\s*(?:;|$)/i.test(headers['content-type'] ?? '')
  );
}

/** A call has a connection of its own, and resolves as `forward` does. */
export function forwardGrpc(
  request: IncomingMessage,
  response: ServerResponse,
  { upstream, port, url, headers }: Route,
): Promise<Failure | undefined> {
  return new Promise((resolve) => {
    let failure: Failure = 'broken';
    const session = connect('http://guest', {
      settings: { enablePush: false },
      createConnection: () => endingWhole(upstream.connect(port)),
    });
    // A program that pushes all the same: a stream that nobody listens to ends perchd by its error.
    session.on('stream', (pushed) => {
      keepFor(pushed, session);
      pushed.on('error', () => {}).close(NGHTTP2_REFUSED_STREAM);
    });
    session.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') failure = 'refused';
    });
    const out = open(session, request.method ?? 'POST', url, headers);
    if (!out) {
      session.destroy();
      resolve(failure);
      return;
    }
    out.once('ready', () => keepFor(out, session));
    // Node says `end` of a stream that is reset, too: the end of an answer is in its trailers, or is its head.
    let told = false;
    let whole = false;
    response.once('close', () => {
      // A call of which the program wants no more stays open.
      if (!whole || !out.writableFinished) out.close(NGHTTP2_CANCEL);
      resolve(undefined);
    });
    out.once('response', (head, flags) => {
      const isAll = (flags & NGHTTP2_FLAG_END_STREAM) !== 0;
      if (!writeHead(response, head, isAll)) {
        out.close(NGHTTP2_CANCEL);
        return;
      }
      told = isAll;
      out.pipe(response, { end: false });
    });
    out.once('trailers', (trailers: IncomingHttpHeaders) => {
      told = true;
      response.addTrailers(passable(trailers) as Record<string, string>);
    });
    const end = () => {
      whole = true;
      try {
        response.end();
      } catch {
        response.destroy();
      }
    };
    out.once('end', () => {
      if (told) end();
    });
    out.on('error', () => {});
    out.once('close', () => {
      session.destroy();
      request.unpipe(out);
      request.resume();
      if (!response.headersSent && !whole) resolve(failure);
      else if (!whole && out.rstCode === 0) end();
      else if (!whole) response.destroy();
    });
    request.pipe(out);
  });
}

/** @returns undefined for headers that no request of HTTP/2 can have */
function open(session: ClientHttp2Session, method: string, path: string, headers: string[]) {
  const named = byName(headers);
  const passed = Object.entries(named).filter(([name]) => !unsaid.has(name));
  const pseudo = { ':method': method, ':path': path, ':authority': named.host?.[0] ?? 'localhost' };
  try {
    return session.request({ ...pseudo, ...Object.fromEntries(passed), te: 'trailers' });
  } catch {
    return undefined;
  }
}

/** @returns false when no server may say so, or nobody is there to hear it; then none of it is left */
function writeHead(
  response: ServerResponse,
  { ':status': status, ...head }: IncomingHttpHeaders,
  isAll: boolean,
) {
  try {
    response.sendDate = false;
    response.statusCode = Number(status);
    for (const [name, value] of Object.entries(passable(head))) response.setHeader(name, value as string);
    // Clients look for an error that is all of an answer in a head that ends it.
    if (!isAll) response.flushHeaders();
    return true;
  } catch {
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    return false;
  }
}

function passable(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !isOfOneConnection(name)));
}

/**
 * The head of an answer that breaks the protocol stays in the memory of the session until its stream is collected. Node ends
 * the process when the session is collected first.
 */
function keepFor(stream: object, session: object): void {
  const [its, kept] = [handleOf(stream), handleOf(session)];
  if (its !== undefined) sessions.register(its, kept);
}

function handleOf(of: object): WeakKey | undefined {
  const key = Object.getOwnPropertySymbols(of).find(({ description }) => description === 'kHandle');
  return key === undefined ? undefined : Reflect.get(of, key);
}

/** A connection whose program has ended its half is of no use to HTTP/2. */
function endingWhole(socket: Socket): Socket {
  return socket.once('end', () => socket.destroySoon());
}
