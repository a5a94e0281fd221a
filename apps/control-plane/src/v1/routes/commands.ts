import { CommandList, CommandWithOutput, ListCommandsQuery } from '@perch/protocol';
import { Type } from 'typebox';
import { pageOf, toCommandWithOutput } from '../../exec/index.ts';
import type { Services } from '../../http/index.ts';
import { type App, IdParams, sandboxErrors } from './app.ts';

const tags = ['commands'];
const params = Type.Object({
  ...IdParams.properties,
  pid: Type.Integer({ minimum: 1, maximum: 2 ** 22, description: 'Of the command, in the sandbox.' }),
});
const errors = { ...sandboxErrors, 404: 'No such sandbox, or command_not_found.' };

export function addCommandRoutes(app: App, { sandboxes, guests }: Services): void {
  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id/commands',
    schema: {
      summary: 'List the commands of a sandbox, the newest first',
      description:
        'Those that run, and those that have ended: for an hour, or a minute when a client followed them to the end; ' +
        '256 at most.',
      tags,
      params: IdParams,
      querystring: ListCommandsQuery,
      response: { 200: CommandList, 400: 'A filter is wrong.', ...sandboxErrors } as object,
    },
    async handler(request) {
      const life = await sandboxes.ready(request.params.id, request.id);
      using _ = sandboxes.hold(life);
      const { status, limit = 50, cursor } = request.query;
      return pageOf(await guests.of(life).commands(), { status, limit, cursor });
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id/commands/:pid',
    schema: {
      summary: 'Get a command, with the last of its output',
      description:
        'The output is kept in the memory of the sandbox: a pause keeps it, and a fork copies it. To follow a command ' +
        'send {"type":"attach","pid"} over exec/stream.',
      tags,
      params,
      response: { 200: CommandWithOutput, ...errors } as object,
    },
    async handler(request) {
      const life = await sandboxes.ready(request.params.id, request.id);
      using _ = sandboxes.hold(life);
      return toCommandWithOutput(await guests.of(life).command(request.params.pid));
    },
  });

  app.route({
    method: 'DELETE',
    url: '/v1/sandboxes/:id/commands/:pid',
    schema: {
      summary: 'Kill a command and what it started',
      description: 'Its output and its end are kept. Killing one that has ended is no error.',
      tags,
      params,
      response: { 204: 'It was sent SIGKILL, or had ended.', ...errors } as object,
    },
    async handler(request, reply) {
      const life = await sandboxes.ready(request.params.id, request.id);
      using _ = sandboxes.hold(life);
      const guest = guests.of(life);
      const { pid } = request.params;
      // An ended command is told from one that never was.
      if (!(await guest.signal(pid, 'SIGKILL'))) await guest.command(pid);
      return reply.code(204).send();
    },
  });
}
