import { ListPortsQuery, PerchError, SandboxPorts } from '@perch/protocol';
import { Type } from 'typebox';
import type { Services } from '../../http/index.ts';
import { listPorts, PortSession } from '../../ports/index.ts';
import { type App, IdParams, sandboxErrors } from './app.ts';
import { onLife } from './life-socket.ts';

const tags = ['ports'];
/** Connections to one guest at a time, with those of the edge. */
const mostConnections = 4096;
const params = Type.Object({
  ...IdParams.properties,
  port: Type.Integer({ minimum: 1, maximum: 65_535, description: 'Of the sandbox.' }),
});

export function addPortRoutes(app: App, services: Services): void {
  const { domain, guests, publicUrl, sandboxes, shutdown } = services;

  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id/ports',
    schema: {
      summary: 'List the ports that programs in a sandbox listen on',
      description:
        'TCP only, by number. A URL is below PERCH_PUBLIC_URL, or else below PERCH_DOMAIN with the scheme by which the ' +
        'request came; browsers and curl find names below `localhost` by themselves.',
      tags,
      params: IdParams,
      querystring: ListPortsQuery,
      response: { 200: SandboxPorts, 400: 'A parameter is wrong.', ...sandboxErrors } as object,
    },
    async handler(request) {
      const life = await sandboxes.ready(request.params.id, request.id);
      using _ = sandboxes.hold(life);
      const scheme = publicUrl?.protocol ?? `${request.protocol}:`;
      const below = publicUrl?.host ?? `${domain()}:${request.socket.localPort}`;
      const pattern = `${scheme}//{port}-${life.id}.${below}/`;
      const urlOf = (port: number) => pattern.replace('{port}', String(port));
      const { limit = 100, cursor = '0' } = request.query;
      const all = await listPorts(guests.of(life), life.id, guests.agentPort, urlOf);
      const rest = all.filter(({ port }) => port > Number(cursor));
      const items = rest.slice(0, limit);
      return {
        items,
        next_cursor: rest.length > limit ? String(items.at(-1)?.port) : null,
        url_pattern: pattern,
        traffic_token: life.trafficToken,
      };
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id/ports/:port/stream',
    exposeHeadRoute: false,
    schema: {
      summary: 'Connect to a port of a sandbox over a WebSocket',
      description:
        'One TCP connection, whatever it carries. Binary messages are its bytes, either way. The server sends ' +
        '{"type":"start"} once the program has taken the connection, and {"type":"end"} when that sends nothing more; the ' +
        'client may send {"type":"end"}, too, and reads on. The last message is an error where it is not the end of both, ' +
        'such as port_closed. A pause ends the connection with an error.',
      tags,
      params,
      response: {
        101: 'The WebSocket.',
        400: 'No WebSocket, or no port.',
        403: 'A page of another site.',
        429: 'sandbox_busy: there are too many connections to the sandbox.',
        ...sandboxErrors,
      } as object,
    },
    ...onLife(
      'ports/stream',
      services,
      async (socket, life, request) => {
        const { port } = request.params as { port: number };
        await new PortSession(
          socket as never,
          guests.upstream(life).connect(port),
          port,
          life,
          shutdown,
        ).run();
      },
      (life, request) => {
        const { port } = request.params as { port: number };
        if (port === guests.agentPort) throw agentsPort(port);
        if (guests.upstream(life).open < mostConnections) return;
        throw new PerchError('sandbox_busy', `Sandbox ${life.id} has too many connections.`, {
          id: life.id,
          limit: mostConnections,
        });
      },
    ),
  });
}

/** Clients reach the guest agent by its calls alone. */
function agentsPort(port: number): PerchError {
  const message = `must not be ${port}, which is the guest agent's`;
  return new PerchError('validation_failed', `port ${message}.`, { problems: [{ where: 'port', message }] });
}
