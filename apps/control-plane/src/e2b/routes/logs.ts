import type { FastifyInstance } from 'fastify';
import type { Services } from '../../http/index.ts';
import { type OfSandbox, visible } from './visible.ts';

/** The events of a sandbox's life. Its console has no times; `perch logs` shows it. */
export function addLogRoutes(app: FastifyInstance, { sandboxes }: Services): void {
  const entries = async (id: string, requestId: string) => {
    await visible(sandboxes, id);
    const { events } = await sandboxes.logs(id, requestId);
    return events.map(({ at, status, detail }) => ({
      timestamp: at.toISOString(),
      level: status === 'failed' ? 'error' : 'info',
      message: detail === null ? status : `${status}: ${detail}`,
      fields: {},
    }));
  };

  app.get<OfSandbox>('/sandboxes/:id/logs', async (request) => {
    const logEntries = await entries(request.params.id, request.id);
    return { logs: logEntries.map(({ timestamp, message }) => ({ timestamp, line: message })), logEntries };
  });
  app.get<OfSandbox>('/v2/sandboxes/:id/logs', async (request) => ({
    logs: await entries(request.params.id, request.id),
  }));
}
