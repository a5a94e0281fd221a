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
/**
 * MB of a connection, which is as good as none: what streams may hold is bounded by the limits above and by their
 * windows. Node counts what was not sent of a stream that is reset for ever, and then refuses new ones.
 */
const mostSessionMemory = 100_000;
/** A client that does not end its side of a connection which it was told to leave is cut off. */
const leaveWithinMs = 5_000;

export interface H2Patience {
  /** In which a connection has to ask for something, ms. */
  beginWithinMs: number;
  /** For which a connection may ask for nothing more, ms. */
  idleMs: number;
}

export class H2 {
  readonly #server;
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #sockets = new Set<TLSSocket>();
  readonly #patience: H2Patience;

  constructor(onRequest: RequestListener, patience: H2Patience) {
    this.#patience = patience;
    const take = (request: Http2ServerRequest, response: Http2ServerResponse) =>
      serve(request, response, onRequest);
    this.#server = createServer(
      {
        maxHeaderListPairs: mostHeaders,
        maxSessionMemory: mostSessionMemory,
        settings: {
          maxConcurrentStreams: mostStreams,
          maxHeaderListSize: mostHeaderBytes,
          enablePush: false,
        },
      },
      take,
    );
    this.#server.on('checkContinue', take);
    this.#server.on('connect', (_request, response) => refuse(response, 405, 'CONNECT is not offered here'));
    // A peer that breaks the protocol loses its connection, and that is all.
    this.#server.on('sessionError', () => {});
  }

  take(socket: TLSSocket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    const watch = (session: ServerHttp2Session) => this.#watch(session, socket);
    this.#server.once('session', watch);
    this.#server.emit('connection', socket);
    this.#server.off('session', watch);
  }

  /** Streams that are open come to their end, and no new ones are taken. */
  close(): void {
    for (const session of this.#sessions) session.close();
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** By a clock of its own: Node takes a ping for use. */
  #watch(session: ServerHttp2Session, socket: TLSSocket): void {
    this.#sessions.add(session);
    const { beginWithinMs, idleMs } = this.#patience;
    const leave = () => {
      session.close();
      timer = setTimeout(() => socket.destroy(), leaveWithinMs).unref();
    };
    let timer = setTimeout(leave, beginWithinMs).unref();
    let open = 0;
    session.once('close', () => {
      clearTimeout(timer);
      this.#sessions.delete(session);
    });
    session.on('stream', (stream) => {
      if (open++ === 0) clearTimeout(timer);
      stream.once('close', () => {
        if (--open === 0 && !session.closed) timer = setTimeout(leave, idleMs).unref();
      });
    });
  }
}

/** Whoever is refused may send no end of a body: what is open of the stream would keep its connection. */
function refuse(response: Http2ServerResponse, status: number, problem: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' });
  response.end(`${problem}\n`, () => response.stream.close(constants.NGHTTP2_NO_ERROR));
}

function serve(request: Http2ServerRequest, response: Http2ServerResponse, onRequest: RequestListener): void {
  const { stream } = response;
  // Node's own says NO_ERROR, by which a client takes what came for the whole.
  response.destroy = () => {
    if (!stream.closed) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    return response;
  };
  // Node asks for them by an event, in which an error ends perchd. The body is whole without them.
  const sendTrailers = stream.sendTrailers.bind(stream);
  stream.sendTrailers = (trailers) => {
    try {
      sendTrailers(trailers);
    } catch {
      if (!stream.closed) sendTrailers({});
    }
  };
  // Node throws where the client has reset the stream and has not been read to its end.
  const writeContinue = response.writeContinue.bind(response);
  response.writeContinue = () => {
    if (!stream.closed) writeContinue();
  };
  endWithReset(stream);
  // Those who wait for the end of a client ask whether it has been.
  Object.defineProperty(response, 'destroyed', { get: () => stream.destroyed });
  const problem = asHttp1(request);
  if (problem === undefined) {
    onRequest(request as never, response as never);
    return;
  }
  refuse(response, 400, problem);
  request.resume();
}

/**
 * At a reset with NO_ERROR Node says that the body has ended, by which a part is taken for the whole. It also keeps the
 * stream until what came of the body has been read, which may be never.
 */
function endWithReset(stream: Http2ServerResponse['stream']): void {
  const push = stream.push.bind(stream);
  let isWhole = stream.endAfterHeaders;
  stream.push = (chunk, encoding) => {
    if (chunk !== null) return push(chunk, encoding);
    if (!stream.closed) isWhole = true;
    // Node is not done with it yet.
    else if (!isWhole || stream.aborted) process.nextTick(() => stream.destroy());
    return isWhole && push(null);
  };
}
