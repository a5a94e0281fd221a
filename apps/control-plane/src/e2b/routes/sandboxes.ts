/** Create, list, look at, kill. */
import { templateNamePattern } from '@perch/protocol';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { callerOn, clientGone, type Services } from '../../http/index.ts';
import { encodeCursor } from '../../sandboxes/index.ts';
import { refuse } from '../errors.ts';
import { readCreate } from '../fields.ts';
import { readList } from '../list.ts';
import { type State, startOf, toAccess, toDetail, toListed } from '../view.ts';
import { callersDomain, notFound, type OfSandbox, templateNotFound, visible } from './visible.ts';

/** Seconds that a sandbox has when the call says nothing, by the version of the call. */
const defaultTimeouts = { '/v2/sandboxes': 300, '/sandboxes': 15 } as const;
const templateName = new RegExp(templateNamePattern);
const everywhere: Record<keyof typeof defaultTimeouts, readonly State[]> = {
  '/v2/sandboxes': ['running', 'paused'],
  '/sandboxes': ['running'],
};

export function addSandboxRoutes(app: FastifyInstance, { publicUrl, sandboxes }: Services): void {
  for (const url of ['/v2/sandboxes', '/sandboxes'] as const) {
    app.route({
      method: 'POST',
      url,
      config: { once: true },
      async handler(request, reply) {
        const asked = readCreate(request.body);
        // Such as one of a team, or with a tag: of those there are none.
        if (!templateName.test(asked.templateID)) throw templateNotFound(asked.templateID);
        if (asked.autoPauseMemory === false && asked.autoResume?.enabled)
          refuse('autoPauseMemory', 'does not go with autoResume');
        const key = idempotencyKey(request);
        const sandbox = await sandboxes.create(
          {
            template: asked.templateID,
            metadata: asked.metadata ?? {},
            env: asked.envVars ?? {},
            timeout_sec: asked.timeout ?? defaultTimeouts[url],
            timeout_mode: 'fixed',
            on_timeout: asked.autoPause ? 'pause' : 'destroy',
            pause_memory: asked.autoPauseMemory ?? true,
            auto_resume: asked.autoResume?.enabled ?? false,
          },
          {
            requestId: request.id,
            edge: {
              publicTraffic: asked.network?.allowPublicTraffic ?? true,
              maskHost: asked.network?.maskRequestHost ?? null,
            },
            ...(key === undefined
              ? { clientGone: clientGone(reply) }
              : { idempotencyKey: { apiKeyId: callerOn(request).keyId, key } }),
          },
        );
        return reply.code(201).send(toAccess(sandbox, callersDomain(request, publicUrl)));
      },
    });

    app.route({
      method: 'GET',
      url,
      async handler(request, reply) {
        const { rows, last } = await sandboxes.list(readList(request.query, everywhere[url]));
        if (last) void reply.header('x-next-token', encodeCursor({ createdAt: startOf(last), id: last.id }));
        return rows.map(toListed);
      },
    });
  }

  app.get<OfSandbox>('/sandboxes/:id', async (request) =>
    toDetail(await visible(sandboxes, request.params.id), callersDomain(request, publicUrl)),
  );

  app.delete<OfSandbox>('/sandboxes/:id', async (request, reply) => {
    const { id } = request.params;
    const { status } = await sandboxes.row(id);
    // One that failed is there until it is taken away.
    if (status === 'destroyed' || status === 'destroying') throw notFound(id);
    await sandboxes.destroy(id, 'asked for', request.id);
    return reply.code(204).send();
  });
}

function idempotencyKey(request: FastifyRequest): string | undefined {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (typeof key === 'string' && /^[\x21-\x7e]{1,255}$/.test(key)) return key;
  return refuse('Idempotency-Key', 'must be 1 to 255 printable ASCII characters without spaces');
}
