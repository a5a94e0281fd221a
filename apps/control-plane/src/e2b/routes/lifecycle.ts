/** Connect, pause, resume, fork, and the end of a sandbox's time. */
import { isPerchError, PerchError } from '@perch/protocol';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { clientGone, type Services } from '../../http/index.ts';
import { refuse, toE2bError } from '../errors.ts';
import {
  readConnect,
  readFork,
  readNetwork,
  readPause,
  readRefresh,
  readResume,
  readTimeout,
} from '../fields.ts';
import { expectHealthy } from '../measure.ts';
import { toAccess } from '../view.ts';
import { callersDomain, notFound, type OfSandbox, visible } from './visible.ts';

const defaultTimeoutSec = 300;

export function addLifecycleRoutes(app: FastifyInstance, { guests, publicUrl, sandboxes }: Services): void {
  /** Answers 201 when it was paused. */
  const connect = async (
    request: FastifyRequest<OfSandbox>,
    reply: FastifyReply,
    timeoutSec: number,
    memory?: boolean,
  ) => {
    const { id } = request.params;
    const { generation } = await visible(sandboxes, id);
    const row = await sandboxes.connect(id, timeoutSec, request.id, memory);
    const resumed = row.generation !== generation;
    return reply.code(resumed ? 201 : 200).send(toAccess(row, callersDomain(request, publicUrl)));
  };

  for (const url of ['/v2/sandboxes/:id/connect', '/sandboxes/:id/connect']) {
    app.post<OfSandbox>(url, async (request, reply) => {
      const { timeout = defaultTimeoutSec, memory } = readConnect(request.body);
      return connect(request, reply, timeout, memory);
    });
  }

  app.post<OfSandbox>('/sandboxes/:id/resume', async (request, reply) => {
    const { timeout = defaultTimeoutSec, autoPause } = readResume(request.body);
    const { id } = request.params;
    const { status, on_timeout } = await visible(sandboxes, id);
    if (autoPause !== undefined && autoPause !== (on_timeout === 'pause')) {
      refuse('autoPause', 'is said at create, and stays');
    }
    if (status === 'running') {
      throw new PerchError('sandbox_not_paused', `Sandbox ${id} is already running.`, { id, status });
    }
    return connect(request, reply, timeout);
  });

  app.post<OfSandbox>('/sandboxes/:id/pause', async (request, reply) => {
    const { id } = request.params;
    const { memory, requireHealthyGuest } = readPause(request.body);
    await visible(sandboxes, id);
    const life = sandboxes.life(id);
    // Without memory the guest is asked in any case.
    if (requireHealthyGuest && memory !== false && life?.status === 'running') {
      await expectHealthy(guests, life);
    }
    await sandboxes.pause(id, request.id, { memory });
    return reply.code(204).send();
  });

  app.post<OfSandbox>('/sandboxes/:id/timeout', async (request, reply) => {
    const { timeout } = readTimeout(request.body);
    await running(request.params.id, () => sandboxes.setTimeout(request.params.id, timeout));
    return reply.code(204).send();
  });

  app.post<OfSandbox>('/sandboxes/:id/refreshes', async (request, reply) => {
    const { duration = 15 } = readRefresh(request.body);
    await running(request.params.id, async () => {
      if ((await visible(sandboxes, request.params.id)).status !== 'running')
        throw notFound(request.params.id);
      return sandboxes.connect(request.params.id, duration, request.id);
    });
    return reply.code(204).send();
  });

  app.route<OfSandbox>({
    method: 'POST',
    url: '/sandboxes/:id/fork',
    config: { once: true },
    async handler(request, reply) {
      const { timeout = defaultTimeoutSec, count = 1 } = readFork(request.body);
      const { id } = request.params;
      await visible(sandboxes, id);
      const context = { requestId: request.id, clientGone: clientGone(reply) };
      const { children } = await sandboxes.fork(id, { count, timeoutSec: timeout }, context);
      const domain = callersDomain(request, publicUrl);
      const answers = children.map((child) =>
        child instanceof PerchError ? { error: toE2bError(child) } : { sandbox: toAccess(child, domain) },
      );
      return reply.code(201).send(answers);
    },
  });

  app.put<OfSandbox>('/sandboxes/:id/network', async (request, reply) => {
    await visible(sandboxes, request.params.id);
    readNetwork(request.body);
    return reply.code(204).send();
  });
}

/** E2B has no time for a sandbox that does not run: it is not found. */
async function running(id: string, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (isPerchError(error, 'sandbox_not_running') || isPerchError(error, 'sandbox_failed'))
      throw notFound(id);
    throw error;
  }
}
