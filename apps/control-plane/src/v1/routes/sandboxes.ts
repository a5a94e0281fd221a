import {
  CreateSandbox,
  ListSandboxesQuery,
  Sandbox,
  SandboxList,
  SandboxLogs,
  type SandboxStatus,
  SetTimeout,
  sandboxStatuses,
} from '@perch/protocol';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { callerOn, clientGone, type Services } from '../../http/index.ts';
import { decodeCursor, encodeCursor } from '../../sandboxes/index.ts';
import { validationError } from '../../validation/index.ts';
import { toSandbox } from '../view.ts';
import { type App, emptyBody, IdParams } from './app.ts';

const tags = ['sandboxes'];
const metadataPrefix = 'metadata.';

const ListQuery = Type.Object(ListSandboxesQuery.properties, {
  additionalProperties: false,
  patternProperties: {
    '^metadata\\.': {
      type: 'string',
      title: 'metadata.KEY',
      description: 'Only sandboxes whose label KEY has this value. Several are joined by AND.',
    },
  },
});

export function addSandboxRoutes(app: App, { sandboxes }: Services): void {
  app.route({
    method: 'POST',
    url: '/v1/sandboxes',
    preValidation: emptyBody,
    schema: {
      summary: 'Create a sandbox',
      description:
        'Answers once the sandbox runs. With an Idempotency-Key header a repeat within 24 hours gets the same sandbox, ' +
        'as it is then; without one, a client that goes away before the answer leaves no sandbox. No body, or an empty ' +
        'one, is {}; null is refused, and so is white space alone.',
      tags,
      optionalBody: true,
      body: CreateSandbox,
      response: {
        201: { ...Sandbox, description: 'It runs.' },
        400: 'A field is wrong; `details` names it.',
        404: 'No such template.',
        422: 'The Idempotency-Key was used for another request.',
        500: 'image_damaged, snapshot_damaged: there is no sandbox.',
        503: 'The host has no room, or does not answer. Retry-After says when to try again.',
        507: 'host_disk_full: the disk of the host filled up meanwhile, and there is no sandbox.',
      } as object,
    },
    async handler(request, reply) {
      const key = idempotencyKey(request);
      const sandbox = await sandboxes.create(request.body, {
        requestId: request.id,
        ...(key === undefined
          ? { clientGone: clientGone(reply) }
          : { idempotencyKey: { apiKeyId: callerOn(request).keyId, key } }),
      });
      return reply.code(201).send(toSandbox(sandbox));
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/sandboxes',
    schema: {
      summary: 'List sandboxes, the newest first',
      description: 'Destroyed ones come only when `status` asks for them.',
      tags,
      querystring: ListQuery,
      response: { 200: SandboxList, 400: 'A filter is wrong.' } as object,
    },
    async handler(request) {
      const {
        status,
        limit = 50,
        cursor,
        ...rest
      } = request.query as Record<string, string> & {
        limit?: number;
      };
      const { rows, last } = await sandboxes.list({
        statuses: parseStatuses(status),
        metadata: metadataOf(rest),
        after: cursor === undefined ? undefined : decodeCursor(cursor),
        limit,
      });
      return {
        items: rows.map((row) => toSandbox(sandboxes.now(row))),
        next_cursor: last ? encodeCursor({ createdAt: last.created_at, id: last.id }) : null,
      };
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id',
    schema: {
      summary: 'Get a sandbox',
      tags,
      params: IdParams,
      response: { 200: Sandbox, 404: 'No such sandbox.' } as object,
    },
    handler: async (request) => toSandbox(await sandboxes.get(request.params.id)),
  });

  app.route({
    method: 'DELETE',
    url: '/v1/sandboxes/:id',
    schema: {
      summary: 'Destroy a sandbox',
      description: 'Answers when nothing of it is left. Destroying it again is no error.',
      tags,
      params: IdParams,
      response: {
        204: 'It is gone.',
        404: 'No such sandbox.',
        503: 'The host does not answer; it is destroyed as soon as it does. Or cleanup_delayed: the host goes on trying.',
      } as object,
    },
    async handler(request, reply) {
      await sandboxes.destroy(request.params.id, 'asked for', request.id);
      return reply.code(204).send();
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id/logs',
    schema: {
      summary: "Get a sandbox's life events and console",
      tags,
      params: IdParams,
      response: { 200: SandboxLogs, 404: 'No such sandbox.', 503: 'The host does not answer.' } as object,
    },
    async handler(request) {
      const logs = await sandboxes.logs(request.params.id, request.id);
      return {
        events: logs.events.map(({ at, status, detail }) => ({ at: at.toISOString(), status, detail })),
        console: logs.console.toString('utf8'),
      };
    },
  });

  app.route({
    method: 'POST',
    url: '/v1/sandboxes/:id/timeout',
    schema: {
      summary: 'Set the time that a sandbox has left',
      description:
        'Counts from now. In mode `idle` it is also the time that each activity gives. No time runs while it is paused.',
      tags,
      params: IdParams,
      body: SetTimeout,
      response: {
        200: Sandbox,
        400: 'timeout_sec is wrong.',
        404: 'No such sandbox.',
        409: 'Not running.',
      } as object,
    },
    handler: async (request) =>
      toSandbox(await sandboxes.setTimeout(request.params.id, request.body.timeout_sec)),
  });
}

function idempotencyKey(request: FastifyRequest): string | undefined {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (typeof key === 'string' && /^[\x21-\x7e]{1,255}$/.test(key)) return key;
  const message = 'must be 1 to 255 printable ASCII characters without spaces';
  throw validationError([{ where: 'Idempotency-Key', message }]);
}

function parseStatuses(text: string | undefined): SandboxStatus[] {
  if (text === undefined) return sandboxStatuses.filter((status) => status !== 'destroyed');
  const statuses = text.split(',');
  const isStatus = (status: string): status is SandboxStatus =>
    (sandboxStatuses as readonly string[]).includes(status);
  if (statuses.every(isStatus)) return statuses;
  throw validationError([
    { where: 'status', message: `must be one or more of ${sandboxStatuses.join(', ')}, with commas between` },
  ]);
}

function metadataOf(query: Record<string, unknown>): Record<string, string> {
  const metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(query)) {
    const key = name.slice(metadataPrefix.length);
    const text = String(value);
    if (key === '' || `${key}${text}`.includes('\0') || !`${key}${text}`.isWellFormed()) {
      throw validationError([{ where: name, message: 'must be metadata.KEY=VALUE, without NUL' }]);
    }
    metadata[key] = text;
  }
  return metadata;
}
