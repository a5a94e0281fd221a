import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Services } from '../../http/index.ts';
import { checker } from '../../validation/index.ts';
import { type OfSandbox, visible } from './visible.ts';

/** In ms since 1970. */
const checkStart = checker(
  Type.Object({ start: Type.Optional(Type.String({ pattern: '^\\d{1,15}$' })) }),
  'the query',
);

/** The events of a sandbox's life. Its console has no times; `perch logs` shows it. */
export function addLogRoutes(app: FastifyInstance, { sandboxes }: Services): void {
  const entries = async (id: string, requestId: string, start = 0) => {
    await visible(sandboxes, id);
    const { events } = await sandboxes.logs(id, requestId);
    return events
      .filter(({ at }) => at.getTime() >= start)
      .map(({ at, status, detail }) => ({
        timestamp: at.toISOString(),
        level: status === 'failed' ? 'error' : 'info',
        message: detail === null ? status : `${status}: ${detail}`,
        fields: {},
      }));
  };

  app.get<OfSandbox>('/sandboxes/:id/logs', async (request) => {
    const { start } = checkStart(request.query);
    const logEntries = await entries(request.params.id, request.id, Number(start ?? 0));
    // E2B's command line reads each line as JSON.
    const logs = logEntries.map(({ timestamp, level, message }) => ({
      timestamp,
      line: JSON.stringify({ level, logger: 'perch', message }),
    }));
    return { logs, logEntries };
  });
  app.get<OfSandbox>('/v2/sandboxes/:id/logs', async (request) => ({
    logs: await entries(request.params.id, request.id),
  }));
}
