/** Calls about snapshots with names. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import {
  ConvertSnapshot,
  ErrorBody,
  HostImported,
  HostSnapshotCreate,
  HostSnapshotImport,
  HostSnapshotList,
  NewSnapshot,
  Snapshot,
  SnapshotParams,
} from '@perch/protocol';
import { Type } from 'typebox';
import type { Lifecycle } from '../lifecycle/index.ts';
import { onlyRoot } from './only-root.ts';

export const errors = { '4xx': ErrorBody, '5xx': ErrorBody };

export function snapshotRoutes(lifecycle: Lifecycle): FastifyPluginAsyncTypebox {
  const params = SnapshotParams;
  return async (app) => {
    app.post(
      '/v1/snapshots',
      { schema: { body: HostSnapshotCreate, response: { 201: NewSnapshot, ...errors } } },
      async (request, reply) => {
        const { sandbox_id: sandbox, name } = request.body;
        request.log.info({ sandbox, snapshot: name }, 'snapshot');
        return reply.code(201).send(await lifecycle.snapshots.create(request.body));
      },
    );

    app.post(
      '/v1/snapshots/import',
      {
        onRequest: onlyRoot,
        schema: { body: HostSnapshotImport, response: { 201: HostImported, ...errors } },
      },
      async (request, reply) => {
        const { name, directory } = request.body;
        request.log.info({ snapshot: name, directory }, 'import snapshot');
        return reply.code(201).send(await lifecycle.snapshots.import(request.body));
      },
    );

    app.get('/v1/snapshots', { schema: { response: { 200: HostSnapshotList, ...errors } } }, async () => ({
      items: await lifecycle.snapshots.list(),
    }));

    app.get(
      '/v1/snapshots/:name',
      { schema: { params, response: { 200: Snapshot, ...errors } } },
      (request) => lifecycle.snapshots.describe(request.params.name),
    );

    app.post(
      '/v1/snapshots/:name/flatten',
      { schema: { params, response: { 200: Snapshot, ...errors } } },
      (request) => {
        request.log.info({ snapshot: request.params.name }, 'flatten snapshot');
        return lifecycle.snapshots.flatten(request.params.name);
      },
    );

    app.post(
      '/v1/snapshots/:name/convert',
      { schema: { params, body: ConvertSnapshot, response: { 200: Snapshot, ...errors } } },
      (request) => {
        const { to } = request.body;
        request.log.info({ snapshot: request.params.name, to }, 'convert snapshot');
        return lifecycle.snapshots.convert(request.params.name, to);
      },
    );

    app.delete(
      '/v1/snapshots/:name',
      { schema: { params, response: { 204: Type.Null(), ...errors } } },
      async (request, reply) => {
        request.log.info({ snapshot: request.params.name }, 'remove snapshot');
        await lifecycle.snapshots.remove(request.params.name);
        return reply.code(204).send(null);
      },
    );
  };
}
