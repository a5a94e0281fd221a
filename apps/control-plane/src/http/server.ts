/** The HTTP server: what holds for every route. */
import type { IncomingMessage } from 'node:http';
import websocket from '@fastify/websocket';
import { PerchError } from '@perch/protocol';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifySchema,
  LogController,
} from 'fastify';
import type { TSchema } from 'typebox';
import { OpenApi } from '../docs/index.ts';
import { maxMessageBytes } from '../exec/index.ts';
import { checker } from '../validation/index.ts';
import { addAccess } from './access.ts';
import { sendError, sendParserError } from './errors.ts';
import { readJson } from './json-body.ts';
import { convertQuery } from './query.ts';
import { requestId } from './request-id.ts';
import { addRoutes } from './routes/index.ts';
import type { Services } from './services.ts';
import { TalkingSocket } from './talking-socket.ts';

const wholes: Record<string, string> = {
  body: 'the body',
  querystring: 'the query',
  params: 'the path',
  headers: 'the headers',
};

/** `close()` of the result ends idle connections and waits for the busy ones. */
export async function createServer(services: Services): Promise<FastifyInstance> {
  const app: FastifyInstance = Fastify({
    loggerInstance: services.log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: requestId,
    requestIdHeader: false,
    bodyLimit: 1024 * 1024,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    keepAliveTimeout: 75_000,
    // Uploads take any time; a JSON body has a deadline of its own.
    requestTimeout: 0,
    http: { headersTimeout: 30_000, noDelay: true, keepAlive: true, connectionsCheckingInterval: 5_000 },
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
  addAccess(app, services);
  observe(app, services);

  const openApi = new OpenApi();
  app.addHook('onRoute', (route) => {
    const methods = [route.method].flat();
    if (!(route.schema as (FastifySchema & { hide?: boolean }) | undefined)?.hide) {
      for (const method of methods) openApi.add(method, route.url, route.schema, route.config?.access);
    }
  });
  app.setNotFoundHandler((request) => {
    throw notFound(request.method, request.url, openApi);
  });
  await app.register(websocket, {
    options: { maxPayload: maxMessageBytes, WebSocket: TalkingSocket as never },
    // The plugin's own would close each connection before its session has said that perchd goes down.
    preClose(done) {
      this.websocketServer.close();
      done();
    },
    // The plugin's own would cut the connection before its peer has read why.
    errorHandler: (error, _socket, request) => request.log.debug({ err: error }, 'a WebSocket broke'),
  });
  await addRoutes(app, services, openApi);
  return app;
}

function notFound(method: string, url: string, openApi: OpenApi): PerchError {
  const path = (url.split('?')[0] ?? '').slice(0, 200);
  const allow = openApi.methodsOf(path);
  if (allow.length === 0) {
    return new PerchError('route_not_found', `There is no ${method} ${path}.`, { method, path });
  }
  return new PerchError('method_not_allowed', `${path} takes ${allow.join(', ')}, not ${method}.`, {
    method,
    allow,
  });
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
