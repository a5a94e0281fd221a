import { type Snapshot, templateNamePattern } from '@perch/protocol';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { pageByName, type Services } from '../../http/index.ts';
import { newSnapshotName } from '../../snapshots/index.ts';
import { checker } from '../../validation/index.ts';
import { refuse } from '../errors.ts';
import { readSnapshot } from '../fields.ts';
import { readLimit } from '../list.ts';
import { type OfSandbox, visible } from './visible.ts';

const name = new RegExp(templateNamePattern);
const checkQuery = checker(
  Type.Object(
    {
      sandboxID: Type.Optional(Type.String()),
      name: Type.Optional(Type.String()),
      limit: Type.Optional(Type.String()),
      nextToken: Type.Optional(Type.String({ maxLength: 512 })),
    },
    { additionalProperties: false },
  ),
  'the query',
);

/** A snapshot has one name, by which sandboxes are made from it and by which it is deleted. */
const toInfo = (snapshot: Snapshot) => ({ snapshotID: snapshot.name, names: [snapshot.name] });

export function addSnapshotRoutes(app: FastifyInstance, { sandboxes, snapshots }: Services): void {
  app.route<OfSandbox>({
    method: 'POST',
    url: '/sandboxes/:id/snapshots',
    config: { once: true },
    async handler(request, reply) {
      const { id } = request.params;
      const { name: asked, memory } = readSnapshot(request.body);
      if (asked !== undefined && !name.test(asked)) refuse('name', `must match ${templateNamePattern}`);
      await visible(sandboxes, id);
      // The name of one that is there goes over to the new one.
      const named = asked ?? newSnapshotName();
      const made = await sandboxes.snapshot(id, { name: named, overwrite: true, memory }, request.id);
      return reply.code(201).send(toInfo(made));
    },
  });

  app.get('/snapshots', async (request, reply) => {
    const query = checkQuery(request.query);
    const { name, sandboxID: sandboxId } = query;
    const all = await snapshots.list({ type: 'snapshot', name, sandboxId }, request.id);
    const page = pageByName(all, readLimit(query.limit), query.nextToken || undefined);
    if (page.next_cursor !== null) void reply.header('x-next-token', page.next_cursor);
    return page.items.map(toInfo);
  });
}
