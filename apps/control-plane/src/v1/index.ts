/** The REST API under `/v1`, with the pages and documents beside it. */
import websocket from '@fastify/websocket';
import { PerchError } from '@perch/protocol';
import type { FastifyInstance, FastifySchema } from 'fastify';
import { OpenApi } from '../docs/index.ts';
import { maxMessageBytes } from '../exec/index.ts';
import { addAccess, type Services } from '../http/index.ts';
import { createGate } from './access.ts';
import { addRoutes } from './routes/index.ts';
import { TalkingSocket } from './talking-socket.ts';

/** Adds it to a server. It also answers for each path that is no route of any front. */
export async function v1(app: FastifyInstance, services: Services): Promise<void> {
  const openApi = new OpenApi();
  addAccess(app, services, createGate(services));
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
    options: {
      maxPayload: maxMessageBytes,
      WebSocket: TalkingSocket as never,
      server: app.upgrades as never,
    },
    // The plugin's own would close each connection before its session has said that perchd goes down.
    preClose(done) {
      this.websocketServer.close();
      done();
    },
    // The plugin's own would cut the connection before its peer has read why.
    errorHandler: (error, _socket, request) => request.log.debug({ err: error }, 'a WebSocket broke'),
  });
  await addRoutes(app, services, openApi);
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
