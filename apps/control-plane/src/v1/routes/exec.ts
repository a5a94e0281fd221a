import { ExecRequest, ExecResult, ExecTicket } from '@perch/protocol';
import { Type } from 'typebox';
import { ExecSession, runCommand } from '../../exec/index.ts';
import { callerOn, clientGone, type Services } from '../../http/index.ts';
import { type App, IdParams, sandboxErrors } from './app.ts';
import { onLife } from './life-socket.ts';

const tags = ['commands'];
/** 8 MiB of stdin, with room for escapes. */
const bodyLimit = 20 * 1024 * 1024;

export function addExecRoutes(app: App, services: Services): void {
  const { sandboxes, guests, tickets, metrics } = services;

  app.route({
    method: 'POST',
    url: '/v1/sandboxes/:id/exec',
    bodyLimit,
    schema: {
      summary: 'Run a command to its end',
      description:
        'Output past 8 MiB a stream is cut, and `truncated` says so. A stream that is not valid UTF-8 comes as base64. ' +
        'A client that goes away ends the command, and so does a pause.',
      tags,
      params: IdParams,
      body: ExecRequest,
      response: {
        200: ExecResult,
        400: 'A field is wrong, or the user or directory is not there.',
        ...sandboxErrors,
        504: 'Its time was over and it was killed; the output so far is in error.details.',
      } as object,
    },
    async handler(request, reply) {
      const life = await sandboxes.ready(request.params.id, request.id);
      using _ = sandboxes.hold(life);
      try {
        const result = await runCommand(guests.of(life), life, request.body, {
          gone: clientGone(reply),
          shutdown: services.shutdown,
        });
        metrics.exec('whole', 'exit');
        return result;
      } catch (error) {
        metrics.exec('whole', 'error');
        throw error;
      }
    },
  });

  app.route({
    method: 'POST',
    url: '/v1/sandboxes/:id/exec/ticket',
    schema: {
      summary: 'Get a ticket for one exec/stream or files/watch connection',
      description:
        'For clients that cannot send a header: exec/stream?ticket=… or files/watch?…&ticket=… within a minute, once.',
      tags,
      params: IdParams,
      response: { 200: ExecTicket, ...sandboxErrors } as object,
    },
    async handler(request) {
      const life = await sandboxes.ready(request.params.id, request.id);
      const { ticket, expiresAt } = tickets.issue(life.id, callerOn(request));
      return { ticket, expires_at: expiresAt.toISOString() };
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id/exec/stream',
    exposeHeadRoute: false,
    config: { access: 'ticket' },
    schema: {
      summary: 'Run a command over a WebSocket',
      description:
        'Messages are JSON text. The client sends {"type":"start","cmd",…} first, then stdin, stdin_close, signal, ' +
        'stop, and with a terminal (`pty`) resize; the server sends start, stdout and stderr (data, or data_base64 for bytes that are no UTF-8), and at ' +
        'last exit or error. {"type":"attach","pid"} instead of start follows a command that runs or has ended: what is ' +
        'kept of its output comes first. Closing the connection kills the command, unless start asked to detach or it ' +
        'was attached to. A pause, or the end of perchd, ends the connection with an error and no command.',
      tags,
      params: IdParams,
      querystring: Type.Object(
        { ticket: Type.Optional(Type.String({ maxLength: 128 })) },
        { additionalProperties: false },
      ),
      response: {
        101: 'The WebSocket.',
        400: 'No WebSocket.',
        403: 'A page of another site.',
        ...sandboxErrors,
      } as object,
    },
    ...onLife('exec/stream', services, async (socket, life) => {
      const session = new ExecSession(socket as never, guests.of(life), life, services.shutdown);
      metrics.exec('stream', await session.run());
    }),
  });
}
