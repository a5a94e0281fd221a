/** The control-plane API of E2B, so that programs written with its SDKs run here. docs/COMPATIBILITY.md tells each call. */
import { PerchError } from '@perch/protocol';
import type { FastifyInstance } from 'fastify';
import { addAccess, type Services } from '../http/index.ts';
import { sendE2bError } from './errors.ts';
import { addLifecycleRoutes } from './routes/lifecycle.ts';
import { addLogRoutes } from './routes/logs.ts';
import { addMetricsRoutes } from './routes/metrics.ts';
import { addSandboxRoutes } from './routes/sandboxes.ts';
import { addSnapshotRoutes } from './routes/snapshots.ts';
import { addTemplateRoutes } from './routes/templates.ts';
import { addUndone } from './routes/undone.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** It makes something each time that it is called. */
    once?: boolean;
  }
}

/** Adds it to a server, at the paths that E2B's clients call. */
export async function e2b(app: FastifyInstance, services: Services): Promise<void> {
  const { keys } = services;
  app.setErrorHandler(sendE2bError);
  addAccess(app, services, {
    caller: (request) => keys.verify(request.headers['x-api-key']),
    refusal: () => new PerchError('unauthorized', 'The API key is missing or not valid.', {}),
  });
  addSandboxRoutes(app, services);
  addLifecycleRoutes(app, services);
  addSnapshotRoutes(app, services);
  addMetricsRoutes(app, services);
  addLogRoutes(app, services);
  addTemplateRoutes(app, services);
  addUndone(app);
}
