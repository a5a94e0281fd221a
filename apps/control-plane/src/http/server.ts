/** The HTTP server: what holds for every route of every front. */
import { EventEmitter } from 'node:events';
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from 'node:http';
import type { Duplex } from 'node:stream';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify';
import type { TSchema } from 'typebox';
import { checker } from '../validation/index.ts';
import { sendError, sendParserError } from './errors.ts';
import { awaitsContinue } from './expect.ts';
import { readJson } from './json-body.ts';
import { type CertificateFile, Listener } from './listener/index.ts';
import { convertQuery } from './query.ts';
import { requestId } from './request-id.ts';
import type { Services } from './services.ts';

declare module 'fastify' {
  interface FastifyInstance {
    /** Emits `upgrade` as an HTTP server does, for the requests that are for a route. */
    upgrades: EventEmitter;
    listener: Listener;
  }
}

/** An API: a Fastify plugin, whose hooks and form of errors hold for its own routes. */
export type Front = (app: FastifyInstance, services: Services) => Promise<void>;

/** Takes requests that are for no front. A call that rejects is a fault of its own, and ends that connection alone. */
export interface Interceptor {
  takes(request: IncomingMessage): boolean;
  request(request: IncomingMessage, response: ServerResponse): Promise<void>;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>;
}

/** Longer than the 300 s for which E2B's clients keep a connection: a request must not meet one that closes. */
const keepAliveMs = 310_000;
/** For the first byte of a connection, and for a whole head. */
const headWithinMs = 30_000;

const patience = { beginWithinMs: headWithinMs, handshakeWithinMs: 10_000, idleMs: keepAliveMs };

const wholes: Record<string, string> = {
  body: 'the body',
  querystring: 'the query',
  params: 'the path',
  headers: 'the headers',
};

/** `close()` of the result ends idle connections and waits for the busy ones. */
export async function createServer(
  services: Services,
  fronts: readonly Front[],
  interceptor: Interceptor,
  certificate: CertificateFile,
): Promise<FastifyInstance> {
  const fault = (client: { destroy(): unknown }) => (error: unknown) => {
    services.log.error({ err: error }, 'a request was not passed on');
    client.destroy();
  };
  let listener: Listener | undefined;
  const app: FastifyInstance = Fastify({
    loggerInstance: services.log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: requestId,
    requestIdHeader: false,
    bodyLimit: 1024 * 1024,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    serverFactory(handler) {
      const onRequest: RequestListener = (request, response) => {
        if (interceptor.takes(request)) {
          interceptor.request(request, response).catch(fault(response));
          return;
        }
        if (awaitsContinue(request)) response.writeContinue();
        handler(request, response);
      };
      const http1 = createHttpServer(
        {
          keepAliveTimeout: keepAliveMs,
          // Uploads take any time; a JSON body has a deadline of its own.
          requestTimeout: 0,
          ...{
            headersTimeout: headWithinMs,
            noDelay: true,
            keepAlive: true,
            connectionsCheckingInterval: 5_000,
          },
          // To a sandbox nothing else is passed on, such as the offer of HTTP/2 that some clients make.
          shouldUpgradeCallback: (request) =>
            request.headers.upgrade?.toLowerCase() === 'websocket' || !interceptor.takes(request),
        },
        onRequest,
      );
      // Without a listener Node itself tells clients to go on, before a sandbox was asked.
      http1.on('checkContinue', onRequest);
      listener = new Listener({ http1, onRequest, certificate, ...patience });
      return http1;
    },
    routerOptions: { maxParamLength: 256 },
    clientErrorHandler: (error, socket) => sendParserError(error, socket),
    frameworkErrors: (error, request, reply) => {
      void reply.header('x-request-id', request.id);
      sendError(error, request, reply);
    },
  });
  app.setErrorHandler(sendError);
  app.setValidatorCompiler(({ schema, httpPart }) => {
    const check = checker(schema as TSchema, wholes[httpPart ?? ''] ?? 'the request');
    return (data: unknown) => {
      try {
        const isText = httpPart === 'querystring' || httpPart === 'params';
        const value = isText ? convertQuery(schema as TSchema, data) : data;
        return { value: check(value) };
      } catch (error) {
        return { error: error as Error };
      }
    };
  });
  app.setSerializerCompiler(() => JSON.stringify);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    'application/json',
    async (request: { routeOptions: { bodyLimit?: number } }, payload: IncomingMessage) =>
      readJson(payload, request.routeOptions.bodyLimit ?? 1024 * 1024),
  );
  app.decorateRequest('caller', undefined);
  observe(app, services);
  app.decorate('upgrades', new EventEmitter());
  app.decorate('listener', listener as never);
  app.addHook('preClose', async () => listener?.close());
  app.server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    if (interceptor.takes(request)) interceptor.upgrade(request, socket, head).catch(fault(socket));
    else app.upgrades.emit('upgrade', request, socket, head);
  });
  for (const front of fronts) await app.register((own) => front(own, services));
  return app;
}

/** Every answer carries the request id, and is counted and logged without its query, which may hold a ticket. */
function observe(app: FastifyInstance, { metrics }: Services): void {
  app.addHook('onRequest', (request, reply, done) => {
    void reply.header('x-request-id', request.id);
    done();
  });
  app.addHook('onResponse', (request, reply, done) => {
    // An upgrade that was answered as a plain request leaves a socket that the HTTP server knows no more.
    if (request.headers.upgrade !== undefined) request.raw.socket.destroySoon();
    const route = request.is404 ? 'none' : (request.routeOptions.url ?? 'none');
    const seconds = reply.elapsedTime / 1000;
    metrics.request(request.method, route, reply.statusCode, seconds);
    request.log.info(
      {
        method: request.method,
        path: request.url.split('?')[0],
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime * 100) / 100,
        key: request.caller?.keyId,
      },
      'request',
    );
    done();
  });
}
