/** Images and snapshots, as far as they are templates. */
import { type Snapshot, templateNamePattern } from '@perch/protocol';
import type { FastifyInstance } from 'fastify';
import type { Services } from '../../http/index.ts';
import { envdVersion } from '../view.ts';
import { templateNotFound } from './visible.ts';

const name = new RegExp(templateNamePattern);

export function addTemplateRoutes(app: FastifyInstance, { snapshots }: Services): void {
  const find = async (template: string, requestId: string) => {
    const [found] = await snapshots.list({ name: template }, requestId);
    if (!found) throw templateNotFound(template);
    return found;
  };

  app.get('/templates', async (request) => (await snapshots.list({}, request.id)).map(toTemplate));

  app.get<{ Params: { alias: string } }>('/templates/aliases/:alias', async (request) => {
    const { name: templateID } = await find(request.params.alias, request.id);
    return { templateID, public: false };
  });

  app.delete<{ Params: { id: string } }>('/templates/:id', async (request, reply) => {
    const { id } = request.params;
    if (!name.test(id)) throw templateNotFound(id);
    await snapshots.remove(id, request.id);
    return reply.code(204).send();
  });
}

function toTemplate(one: Snapshot) {
  const { name: templateID, created_at: at } = one;
  return {
    ...{ templateID, buildID: templateID, aliases: [templateID], names: [templateID], public: false },
    ...{ cpuCount: one.vcpus ?? 1, memoryMB: one.memory_mb ?? 512, diskSizeMB: one.disk_mb },
    ...{ createdAt: at, updatedAt: at, createdBy: null, lastSpawnedAt: null, spawnCount: 0, buildCount: 1 },
    ...{ envdVersion, buildStatus: 'ready' },
  };
}
