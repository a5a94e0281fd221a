import {
  ConvertSnapshot,
  CreateSnapshot,
  ListSnapshotsQuery,
  NewSnapshot,
  Snapshot,
  SnapshotList,
  SnapshotParams,
} from '@perch/protocol';
import { Type } from 'typebox';
import { pageByName, type Services } from '../../http/index.ts';
import { newSnapshotName } from '../../snapshots/index.ts';

import type { App } from './app.ts';

const tags = ['snapshots'];
const full = 'host_disk_full: the disk of the host filled up meanwhile, and all is as before.';
const unknown = 'No such snapshot.';
const noAnswer = 'The host does not answer.';

export function addSnapshotRoutes(app: App, { sandboxes, snapshots }: Services): void {
  app.route({
    method: 'POST',
    url: '/v1/snapshots',
    schema: {
      tags,
      summary: 'Make a snapshot of a sandbox, to create others from',
      description:
        'Memory, processes and disk as they are. A running sandbox stands still for a moment (`frozen` in timings_ms) ' +
        'and runs on; a paused one stays paused. A client that goes away changes nothing. With `memory: false` it has the ' +
        'disk alone, which a running sandbox writes out first.',
      body: CreateSnapshot,
      querystring: Type.Object(
        {
          overwrite: Type.Optional(
            Type.Boolean({ default: false, description: 'Whether it takes the place of one of that name.' }),
          ),
        },
        { additionalProperties: false },
      ),
      response: {
        201: { ...NewSnapshot, description: 'It is there.' },
        400: 'A field is wrong; `details` names it.',
        404: 'No such sandbox.',
        409: 'snapshot_exists; or the sandbox neither runs nor is paused.',
        500: 'snapshot_failed: the sandbox is as before.',
        507: full,
        503: 'The host has no room on its disk, which is found out first, or does not answer.',
      } as object,
    },
    async handler(request, reply) {
      const { sandbox_id: id, name = newSnapshotName(), memory } = request.body;
      const { overwrite = false } = request.query;
      const made = await sandboxes.snapshot(id, { name, overwrite, memory }, request.id);
      return reply.code(201).send(made);
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/snapshots',
    schema: {
      tags,
      summary: 'List what sandboxes can be created from, by name',
      querystring: ListSnapshotsQuery,
      response: { 200: SnapshotList, 400: 'A filter is wrong.', 503: noAnswer } as object,
    },
    async handler(request) {
      const { type, limit = 50, cursor } = request.query;
      return pageByName(await snapshots.list({ type }, request.id), limit, cursor);
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/snapshots/:name',
    schema: {
      tags,
      summary: 'Get a snapshot',
      params: SnapshotParams,
      response: { 200: Snapshot, 404: unknown, 503: noAnswer } as object,
    },
    handler: (request) => snapshots.get(request.params.name, request.id),
  });

  app.route({
    method: 'POST',
    url: '/v1/snapshots/:name/flatten',
    schema: {
      tags,
      summary: 'Make the disk of a snapshot one file that needs no image below it',
      description:
        'Its cost follows what the disk holds. Of one that stands alone already it changes nothing.',
      params: SnapshotParams,
      response: {
        200: { ...Snapshot, description: 'It stands alone.' },
        404: unknown,
        409: 'snapshot_in_use: it was replaced meanwhile.',
        503: 'The host has no room on its disk, which is found out first, or does not answer.',
        507: full,
      } as object,
    },
    handler: (request) => snapshots.flatten(request.params.name, request.id),
  });

  app.route({
    method: 'POST',
    url: '/v1/snapshots/:name/convert',
    schema: {
      tags,
      summary: 'Write the layers of the disk of a snapshot in another format',
      description:
        'For hosts with another kind of disk. Its cost follows what the layers hold. Of one that has that format, or that ' +
        'stands alone, it changes nothing.',
      params: SnapshotParams,
      body: ConvertSnapshot,
      response: {
        200: { ...Snapshot, description: 'Its layers have that format, or it has none.' },
        400: 'There is no such format.',
        404: unknown,
        409: 'snapshot_in_use: it was replaced meanwhile.',
        500: 'conversion_failed, snapshot_damaged: it is as before.',
        503: 'The host has no room on its disk, which is found out first, or does not answer.',
        507: full,
      } as object,
    },
    handler: (request) => snapshots.convert(request.params.name, request.body, request.id),
  });

  app.route({
    method: 'DELETE',
    url: '/v1/snapshots/:name',
    schema: {
      tags,
      summary: 'Delete a snapshot',
      description: 'Sandboxes that were made from it live on.',
      params: SnapshotParams,
      response: {
        204: 'It is gone.',
        404: unknown,
        409: 'snapshot_in_use: an image, which Perch needs.',
        503: noAnswer,
      } as object,
    },
    async handler(request, reply) {
      await snapshots.remove(request.params.name, request.id);
      return reply.code(204).send();
    },
  });
}
