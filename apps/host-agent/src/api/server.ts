/** The host API: see packages/protocol/src/host-api.ts for its calls. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import {
  type FsckFinding,
  FsckFindings,
  HostCreate,
  type HostEvent,
  HostFork,
  HostForked,
  HostFsck,
  HostInfo,
  HostPause,
  HostResume,
  HostSandbox,
  HostSandboxList,
  HostSandboxParams,
  HostShutdown,
  PerchError,
  SandboxHistory,
} from '@perch/protocol';
import Fastify, { type FastifyError, LogController } from 'fastify';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { Type } from 'typebox';
import type { Lifecycle } from '../lifecycle/index.ts';
import { readyRoutes } from './ready.ts';
import { errors, snapshotRoutes } from './snapshots.ts';

export interface ApiDeps {
  lifecycle: Lifecycle;
  info: () => Promise<HostInfo>;
  metrics: Registry;
  /** Looks for damage, and repairs what it may. */
  fsck: (repair: boolean) => Promise<FsckFinding[]>;
  /** Ends the process after the answer; `remove` takes the sandboxes and slots down too. */
  shutdown: (remove: boolean) => Promise<void>;
  log: Logger;
}

const heartbeatMs = 5000;
const bodyLimit = 512 * 1024;

export function createServer(deps: ApiDeps) {
  const { lifecycle } = deps;
  const app = Fastify({
    loggerInstance: deps.log,
    bodyLimit,
    requestIdHeader: 'x-request-id',
    logController: new LogController({ disableRequestLogging: true }),
    forceCloseConnections: true,
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false } },
  }).withTypeProvider<TypeBoxTypeProvider>();

  app.setErrorHandler((error, request, reply) => {
    const known = asPerchError(error as FastifyError);
    if (known.code === 'internal') request.log.error({ err: error }, 'request failed');
    if (known.code === 'capacity_exhausted') reply.header('retry-after', '5');
    return reply.code(known.status).send(known.toBody());
  });
  app.setNotFoundHandler((request, reply) => {
    const { method, url: path } = request;
    const error = new PerchError('route_not_found', `There is no ${method} ${path}.`, { method, path });
    return reply.code(error.status).send(error.toBody());
  });

  const params = HostSandboxParams;

  app.get('/v1/host', { schema: { response: { 200: HostInfo, ...errors } } }, () => deps.info());

  app.get('/v1/sandboxes', { schema: { response: { 200: HostSandboxList, ...errors } } }, () => ({
    items: lifecycle.list(),
  }));

  app.put(
    '/v1/sandboxes/:id',
    { schema: { params, body: HostCreate, response: { 201: HostSandbox, ...errors } } },
    async (request, reply) => {
      const { id } = request.params;
      // The transitions that follow name the sandbox: this line ties them to the request.
      request.log.info({ sandbox: id }, 'create');
      return reply.code(201).send(await lifecycle.create(id, request.body));
    },
  );

  app.get('/v1/sandboxes/:id', { schema: { params, response: { 200: HostSandbox, ...errors } } }, (request) =>
    lifecycle.get(request.params.id),
  );

  app.delete(
    '/v1/sandboxes/:id',
    { schema: { params, response: { 204: Type.Null(), ...errors } } },
    async (request, reply) => {
      request.log.info({ sandbox: request.params.id }, 'destroy');
      await lifecycle.destroy(request.params.id);
      return reply.code(204).send(null);
    },
  );

  app.post(
    '/v1/sandboxes/:id/pause',
    { schema: { params, body: HostPause, response: { 200: HostSandbox, ...errors } } },
    (request) => {
      request.log.info({ sandbox: request.params.id }, 'pause');
      const { generation, memory } = request.body;
      return lifecycle.pause(request.params.id, generation, memory);
    },
  );

  app.post(
    '/v1/sandboxes/:id/resume',
    { schema: { params, body: HostResume, response: { 200: HostSandbox, ...errors } } },
    (request) => {
      request.log.info({ sandbox: request.params.id }, 'resume');
      return lifecycle.resume(request.params.id, request.body);
    },
  );

  app.post(
    '/v1/sandboxes/:id/fork',
    { schema: { params, body: HostFork, response: { 200: HostForked, ...errors } } },
    (request) => {
      const { id } = request.params;
      const children = request.body.children.map((child) => child.id);
      request.log.info({ sandbox: id, children }, 'fork');
      return lifecycle.fork(id, request.body);
    },
  );

  app.get(
    '/v1/sandboxes/:id/history',
    { schema: { params, response: { 200: SandboxHistory, ...errors } } },
    (request) => lifecycle.history(request.params.id),
  );

  app.register(snapshotRoutes(lifecycle));
  app.register(readyRoutes(lifecycle));

  app.get('/v1/sandboxes/:id/console', { schema: { params } }, async (request, reply) =>
    reply.type('application/octet-stream').send(await lifecycle.console(request.params.id)),
  );

  app.get('/v1/events', (request, reply) => {
    reply.hijack();
    const { raw } = reply;
    raw.writeHead(200, { 'content-type': 'application/x-ndjson' });
    // A reader that stands still is cut off: it connects again and gets the whole state.
    const send = (event: HostEvent) => {
      if (!raw.write(`${JSON.stringify(event)}\n`) && raw.writableLength > 4 * bodyLimit) raw.destroy();
    };
    const stop = lifecycle.watch((sandbox) => send({ type: 'sandbox', sandbox }));
    for (const sandbox of lifecycle.list()) send({ type: 'sandbox', sandbox });
    send({ type: 'synced' });
    const heartbeat = setInterval(() => send({ type: 'heartbeat' }), heartbeatMs);
    request.raw.socket.once('close', () => {
      clearInterval(heartbeat);
      stop();
    });
  });

  app.post(
    '/v1/fsck',
    { schema: { body: HostFsck, response: { 200: FsckFindings, ...errors } } },
    async (request) => ({ findings: await deps.fsck(request.body.repair) }),
  );

  app.post('/v1/shutdown', { schema: { body: HostShutdown } }, async (request, reply) => {
    await deps.shutdown(request.body.remove);
    return reply.code(204).send();
  });

  app.get('/metrics', async (_request, reply) =>
    reply.type(deps.metrics.contentType).send(await deps.metrics.metrics()),
  );

  return app;
}

function asPerchError(error: FastifyError | PerchError): PerchError {
  if (error instanceof PerchError) return error;
  if (error.validation) {
    const problems = error.validation.map(({ instancePath, message }) => ({
      where: `${error.validationContext ?? 'request'}${instancePath}`,
      message: message ?? 'is wrong',
    }));
    return new PerchError('validation_failed', error.message, { problems });
  }
  if (error.statusCode === 413) {
    return new PerchError('body_too_large', error.message, { limit_bytes: bodyLimit });
  }
  if (error.statusCode !== undefined && error.statusCode < 500) {
    return new PerchError('malformed_body', error.message, { reason: error.code });
  }
  return new PerchError('internal', 'The host agent failed; its log has the cause.', {}, { cause: error });
}
