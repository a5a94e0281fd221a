import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Services } from '../../http/index.ts';
import { checker } from '../../validation/index.ts';
import { refuse } from '../errors.ts';
import { measure } from '../measure.ts';
import { type OfSandbox, visible } from './visible.ts';

const Seconds = Type.Optional(Type.String({ pattern: '^\\d{1,12}$' }));
const checkWindow = checker(
  Type.Object({ start: Seconds, end: Seconds }, { additionalProperties: false }),
  'the query',
);
/** Sandboxes that one call may ask for. */
const most = 100;

/** Figures of now: none are kept. */
export function addMetricsRoutes(app: FastifyInstance, { sandboxes, guests }: Services): void {
  const now = async (id: string) => {
    const life = sandboxes.life(id);
    return life?.status === 'running' ? [await measure(guests, life)] : [];
  };

  app.get<OfSandbox>('/sandboxes/:id/metrics', async (request) => {
    const { start = '0', end = '999999999999' } = checkWindow(request.query);
    await visible(sandboxes, request.params.id);
    if (Number(start) > Number(end)) refuse('start', 'must not be after end');
    const figures = await now(request.params.id);
    return figures.filter(
      (one) => one.timestampUnix >= Number(start) && one.timestampUnix <= Number(end) + 10,
    );
  });

  app.get('/sandboxes/metrics', async (request) => {
    const { sandbox_ids: text } = request.query as Record<string, unknown>;
    if (typeof text !== 'string' || text === '') refuse('sandbox_ids', 'must be ids with commas between');
    const ids = [...new Set((text as string).split(','))];
    if (ids.length > most) refuse('sandbox_ids', `must be at most ${most}`);
    const figures = await Promise.all(
      ids.map(async (id) => [id, (await now(id).catch(() => []))[0]] as const),
    );
    return { sandboxes: Object.fromEntries(figures.filter(([, one]) => one !== undefined)) };
  });
}
