/** The server of HTTP/2. To the rest of perchd its requests look like those of HTTP/1.1. */
import type { RequestListener } from 'node:http';
import {
  constants,
  createServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import type { TLSSocket } from 'node:tls';
import { asHttp1 } from './as-http1.ts';

/** As E2B's own: its clients open another connection for more. */
const mostStreams = 100;
/** As that of HTTP/1.1, bytes. */
const mostHeaderBytes = 16 * 1024;
const mostHeaders = 256;
/** Longer than E2B's clients keep a connection, ms. */
const idleMs = 310_000;

export class H2 {
  readonly #server;
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #sockets = new Set<TLSSocket>();

  /** @param beginWithinMs time in which a connection has to ask for something */
  constructor(onRequest: RequestListener, beginWithinMs: number) {
    const take = (request: Http2ServerRequest, response: Http2ServerResponse) =>
      serve(request, response, onRequest);
    this.#server = createServer(
      {
        maxHeaderListPairs: mostHeaders,
        settings: {
          maxConcurrentStreams: mostStreams,
          maxHeaderListSize: mostHeaderBytes,
          enablePush: false,
        },
      },
      take,
    );
    this.#server.on('checkContinue', take);
    this.#server.on('session', (session) => this.#watch(session, beginWithinMs));
    // A peer that breaks the protocol loses its connection, and that is all.
    this.#server.on('sessionError', () => {});
  }

  take(socket: TLSSocket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    this.#server.emit('connection', socket);
  }

  /** Streams that are open come to their end, and no new ones are taken. */
  close(): void {
    for (const session of this.#sessions) session.close();
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #watch(session: ServerHttp2Session, beginWithinMs: number): void {
    this.#sessions.add(session);
    let open = 0;
    session.once('close', () => this.#sessions.delete(session));
    session.on('stream', (stream) => {
      if (open++ === 0) session.setTimeout(idleMs);
      stream.once('close', () => open--);
    });
    session.setTimeout(beginWithinMs);
    session.on('timeout', () => {
      if (open === 0) session.close();
    });
  }
}

function serve(request: Http2ServerRequest, response: Http2ServerResponse, onRequest: RequestListener): void {
  const { stream } = response;
  // Node's own says NO_ERROR, by which a client takes what came for the whole.
  response.destroy = () => {
    if (!stream.closed) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    return response;
  };
  // Those who wait for the end of a client ask whether it has been.
  Object.defineProperty(response, 'destroyed', { get: () => stream.destroyed });
  const problem = asHttp1(request);
  if (problem === undefined) {
    onRequest(request as never, response as never);
    return;
  }
  response.writeHead(400, { 'content-type': 'text/plain; charset=utf-8' });
  response.end(`${problem}\n`);
  request.resume();
}
