import multipart from '@fastify/multipart';
import {
  FileAttributes,
  FileEntry,
  FileList,
  GuestPath,
  ListFilesQuery,
  MoveBody,
  PathBody,
} from '@perch/protocol';
import { Type } from 'typebox';
import type { Guest } from '../../guests/index.ts';
import { clientGone, type Services } from '../../http/index.ts';
import { type App, IdParams, sandboxErrors } from './app.ts';
import { receiveForm, receiveStream, sendArchive, sendFile } from './file-transfers.ts';
import { inSandbox } from './in-sandbox.ts';

const tags = ['files'];

const PathQuery = Type.Object({ path: GuestPath }, { additionalProperties: false });
const WriteQuery = Type.Object({ path: GuestPath, ...FileAttributes }, { additionalProperties: false });
const bytes = { type: 'string', format: 'binary' };
const content = {
  ...bytes,
  contentType: 'application/octet-stream',
  description:
    'The bytes of the file. The headers Perch-Mode (permission bits in octal) and Perch-Mtime (RFC 3339, up to ' +
    'nanoseconds) tell what an upload may give in `mode` and `mtime`.',
};
const form = {
  type: 'object',
  properties: { path: GuestPath, file: { ...bytes, description: 'The bytes, as a part with a filename.' } },
  required: ['path', 'file'],
};
const written = {
  204: 'It is there, whole.',
  400: 'The path is a directory or a device.',
  ...sandboxErrors,
  413: 'The file came before its path and is too large to wait for it.',
  507: 'The disk of the sandbox is full.',
};
const archive = {
  ...bytes,
  contentType: 'application/x-tar',
  description:
    'The archive: the directory itself as `./`, and each directory before what is in it; permission bits, times up to ' +
    'nanoseconds, numbers of owners, links as links. A pipe, socket or device is an entry of a pipe.',
};
const read = { 200: content, 400: 'The path is a directory or a device.', ...sandboxErrors };
const done = { 204: 'Done.', 400: 'The path is wrong.', ...sandboxErrors };

export async function addFileRoutes(app: App, services: Services): Promise<void> {
  addJsonRoutes(app, services);
  await app.register(async (scope: App) => {
    scope.removeAllContentTypeParsers();
    await scope.register(multipart, {
      limits: { fields: 8, files: 2, parts: 8, fieldSize: 16 * 1024, fileSize: Number.POSITIVE_INFINITY },
      throwFileSizeLimit: false,
    });
    addUploadRoute(scope, services);
  });
  await app.register(async (scope: App) => {
    scope.removeAllContentTypeParsers();
    // The body is a stream, whatever its type.
    scope.addContentTypeParser('*', (_request, payload, parsed) => parsed(null, payload));
    addStreamWriteRoute(scope, services);
  });
}

function addJsonRoutes(app: App, services: Services): void {
  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id/files',
    schema: {
      summary: 'List a directory, in pages',
      tags,
      params: IdParams,
      querystring: ListFilesQuery,
      response: { 200: FileList, 400: 'The path is no directory.', ...sandboxErrors } as object,
    },
    async handler(request, reply) {
      const { path, limit = 100, cursor } = request.query;
      const how = { limit, cursor, signal: clientGone(reply) };
      const page = await inSandbox(services, request, (guest) => guest.listPage(path, how));
      return { items: page.entries, next_cursor: page.nextCursor ?? null };
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id/files/stat',
    schema: {
      summary: 'Describe a file or directory',
      tags,
      params: IdParams,
      querystring: PathQuery,
      response: { 200: FileEntry, 400: 'The path is wrong.', ...sandboxErrors } as object,
    },
    handler: (request) => inSandbox(services, request, (guest) => guest.stat(request.query.path)),
  });

  app.route({
    method: 'POST',
    url: '/v1/sandboxes/:id/files/read',
    schema: {
      summary: 'Read a file',
      tags,
      params: IdParams,
      body: PathBody,
      response: read as object,
    },
    handler: (request, reply) => sendFile(services, request, reply, request.body.path),
  });

  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id/files/stream/read',
    schema: {
      summary: 'Read a file of any size as a stream',
      tags,
      params: IdParams,
      querystring: PathQuery,
      response: read as object,
    },
    handler: (request, reply) => sendFile(services, request, reply, request.query.path),
  });

  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id/files/archive',
    schema: {
      summary: 'Read a directory, with all that is below, as a tar stream',
      description:
        'Names are bytes as they are in the sandbox, whose root may write any: unpack it only with a tool that lets none ' +
        'lead out of its directory. An archive lies no more than 256 directories deep. One that breaks off lacks the two ' +
        'blocks of zeros at its end, and its connection is cut. A client of HTTP/1.1 that sends `TE: trailers` and ' +
        '`Connection: TE` is told why instead: the trailer Perch-Error has the body of the error, in JSON.',
      tags,
      params: IdParams,
      querystring: PathQuery,
      response: {
        200: archive,
        400: 'The path is no directory.',
        ...sandboxErrors,
        409: 'The sandbox does not run, or its guest agent is older than this call.',
      } as object,
    },
    handler: (request, reply) => sendArchive(services, request, reply, request.query.path),
  });

  const changes = {
    mkdir: [
      'Make a directory and its parents',
      (guest: Guest, path: string, how: { signal: AbortSignal }) => guest.makeDir(path, how),
    ],
    remove: [
      'Remove a file, or a directory with all that is in it',
      (guest: Guest, path: string, how: { signal: AbortSignal }) => guest.remove(path, how),
    ],
  } as const;
  for (const [name, [summary, change]] of Object.entries(changes)) {
    app.route({
      method: 'POST',
      url: `/v1/sandboxes/:id/files/${name}`,
      schema: { summary, tags, params: IdParams, body: PathBody, response: done as object },
      async handler(request, reply) {
        const how = { signal: clientGone(reply) };
        await inSandbox<unknown>(services, request, (guest) => change(guest, request.body.path, how));
        return reply.code(204).send();
      },
    });
  }

  app.route({
    method: 'POST',
    url: '/v1/sandboxes/:id/files/move',
    schema: {
      summary: 'Move or rename a file or directory',
      description:
        'Between file systems of the sandbox it is copied, with modes, times and owners, and then removed at its source.',
      tags,
      params: IdParams,
      body: MoveBody,
      response: done as object,
    },
    async handler(request, reply) {
      const { source, destination } = request.body;
      const how = { signal: clientGone(reply) };
      await inSandbox(services, request, (guest) => guest.move(source, destination, how));
      return reply.code(204).send();
    },
  });
}

function addUploadRoute(app: App, services: Services): void {
  app.route({
    method: 'POST',
    url: '/v1/sandboxes/:id/files/write',
    schema: {
      summary: 'Write a file from a form',
      description:
        'Parts `path` and `file`, in either order; with `path` first there is no limit of size. The file is written ' +
        'under another name and renamed, so that nobody sees a part of it.',
      tags,
      consumes: { 'multipart/form-data': form },
      params: IdParams,
      response: written as object,
    },
    async handler(request, reply) {
      await receiveForm(services, request, reply);
      return reply.code(204).send();
    },
  });
}

function addStreamWriteRoute(app: App, services: Services): void {
  app.route({
    method: 'POST',
    url: '/v1/sandboxes/:id/files/stream/write',
    schema: {
      summary: 'Write a file of any size from the body',
      description:
        'The body is the file, of any content type. With `Content-Encoding: gzip` it is unpacked. A file that is ' +
        'written over keeps its owner and group.',
      tags,
      consumes: { 'application/octet-stream': bytes },
      params: IdParams,
      querystring: WriteQuery,
      response: { ...written, 415: 'The body has another content encoding than gzip.' } as object,
    },
    async handler(request, reply) {
      await receiveStream(services, request, reply, request.query);
      return reply.code(204).send();
    },
  });
}
