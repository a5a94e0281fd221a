import type { OutgoingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import multipart from '@fastify/multipart';
import {
  FileAttributes,
  FileEntry,
  FileList,
  GuestPath,
  ListFilesQuery,
  MoveBody,
  PathBody,
  PerchError,
} from '@perch/protocol';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { inBatches, receiveUpload, type UploadPart } from '../../files/index.ts';
import type { Guest } from '../../guests/index.ts';
import { clientGone, isGzip, refuseEncoding, type Services, unsupportedMediaType } from '../../http/index.ts';
import type { Life } from '../../sandboxes/index.ts';
import { checker } from '../../validation/index.ts';
import { type App, IdParams, sandboxErrors } from './app.ts';

const tags = ['files'];
/** Longest silence of a client that sends or takes a file, ms. */
const silenceMs = 120_000;

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

const checkPath = checker(Type.Object({ path: GuestPath }), 'the form');

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
        'lead out of its directory. An archive that breaks off lacks the two blocks of zeros at its end.',
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
    handler: (request, reply) =>
      send(services, request, reply, async (guest, how) => ({
        stream: await guest.readArchive(request.query.path, how),
        headers: { 'content-type': 'application/x-tar' },
      })),
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
      if (!request.isMultipart()) throw unsupportedMediaType(request);
      refuseEncoding(request.headers, 'A form');
      const life = await services.sandboxes.ready(request.params.id, request.id);
      using _ = services.sandboxes.hold(life);
      using _silence = cutSilence(request);
      const guest = services.guests.of(life);
      const signal = clientGone(reply);
      await inLife(
        life,
        receiveUpload(
          wellFormed(request.parts() as AsyncIterable<UploadPart>),
          (path) => checkPath({ path }).path,
          services.spool,
          (path, data) => write(guest, path, data, services, { signal }),
        ),
      );
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
      const gzip = isGzip(request.headers);
      const life = await services.sandboxes.ready(request.params.id, request.id);
      using _ = services.sandboxes.hold(life);
      using _silence = cutSilence(request);
      const guest = services.guests.of(life);
      const { raw } = request;
      const before = raw.socket.bytesRead;
      const length = request.headers['content-length'];
      const size = length === undefined ? undefined : Number(length);
      const { path, mode, mtime } = request.query;
      const how = {
        signal: clientGone(reply),
        size,
        gzip,
        mode: mode === undefined ? undefined : Number.parseInt(mode, 8),
        modifiedAt: mtime,
      };
      await inLife(life, guest.writeFile(path, inBatches(raw, size), how));
      // Without a length it is what came since then, which lacks what came with the head.
      services.metrics.transferred('in', size ?? raw.socket.bytesRead - before);
      return reply.code(204).send();
    },
  });
}

/** Runs a short call in the sandbox that the request names. */
async function inSandbox<T>(
  services: Services,
  request: FastifyRequest,
  call: (guest: Guest) => Promise<T>,
): Promise<T> {
  const life = await services.sandboxes.ready((request.params as { id: string }).id, request.id);
  using _ = services.sandboxes.hold(life);
  return await inLife(life, call(services.guests.of(life)));
}

/** When the life ends under a transfer, that is the error, and not that the guest does not answer. */
async function inLife<T>(life: Life, task: Promise<T>): Promise<T> {
  try {
    return await task;
  } catch (error) {
    throw life.signal.aborted ? life.signal.reason : error;
  }
}

interface Sent {
  stream: Readable;
  headers: OutgoingHttpHeaders;
  /** Bytes, if known. */
  size?: number | undefined;
}

function sendFile(
  services: Services,
  request: FastifyRequest,
  reply: FastifyReply,
  path: string,
): Promise<FastifyReply> {
  return send(services, request, reply, async (guest, how) => {
    const { stream, size, mode, modifiedAt } = await guest.readFile(path, how);
    const headers: OutgoingHttpHeaders = { 'content-type': 'application/octet-stream' };
    if (size !== undefined) headers['content-length'] = size;
    if (mode !== undefined) headers['perch-mode'] = mode.toString(8).padStart(4, '0');
    if (modifiedAt !== undefined) headers['perch-mtime'] = modifiedAt;
    return { stream, size, headers };
  });
}

/**
 * Sends what the guest gives as it comes. When it breaks off the connection is cut, so that a part is never taken for the
 * whole: by length where there is one, else by the missing end of the chunks.
 */
async function send(
  services: Services,
  request: FastifyRequest,
  reply: FastifyReply,
  open: (guest: Guest, how: { signal: AbortSignal }) => Promise<Sent>,
): Promise<FastifyReply> {
  const life = await services.sandboxes.ready((request.params as { id: string }).id, request.id);
  using _ = services.sandboxes.hold(life);
  const signal = clientGone(reply);
  const { stream, size, headers } = await inLife(life, open(services.guests.of(life), { signal }));
  using _silence = cutSilence(request);
  void reply
    .headers(headers)
    .header('content-disposition', 'attachment')
    .header('x-content-type-options', 'nosniff');
  reply.hijack();
  reply.raw.writeHead(200, reply.getHeaders() as OutgoingHttpHeaders);
  if (request.method === 'HEAD') {
    stream.destroy();
    reply.raw.end();
    return reply;
  }
  try {
    await pipeline(counted(inBatches(stream, size), services), reply.raw);
  } catch (error) {
    // The head has gone, and the pipeline has cut the connection: that is the answer.
    request.log.debug({ err: error }, 'a download broke off');
  } finally {
    stream.destroy();
  }
  return reply;
}

async function* counted(batches: AsyncIterable<Buffer>, { metrics }: Services): AsyncGenerator<Buffer> {
  for await (const batch of batches) {
    metrics.transferred('out', batch.length);
    yield batch;
  }
}

/** Passes a file on. When its source broke, that is the error, and not that the guest missed the rest. */
async function write(
  guest: Guest,
  path: string,
  data: AsyncIterable<Buffer>,
  { metrics }: Services,
  options: { signal: AbortSignal; size?: number | undefined },
): Promise<void> {
  let broken: unknown;
  async function* source(): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of wellFormed(data)) {
        metrics.transferred('in', chunk.length);
        yield chunk;
      }
    } catch (error) {
      broken = error;
      throw error;
    }
  }
  try {
    await guest.writeFile(path, source(), options);
  } catch (error) {
    throw broken ?? error;
  }
}

/** A fault of the sender is the sender's error. */
async function* wellFormed<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* source;
  } catch (error) {
    if (error instanceof PerchError || (error as { code?: unknown }).code !== undefined) throw error;
    const reason = error instanceof Error ? error.message : 'it broke off';
    throw new PerchError(
      'malformed_body',
      `The body cannot be read: ${reason}.`,
      { reason },
      { cause: error },
    );
  }
}

/** Cuts the connection of a client that neither sends nor takes anything for long. */
function cutSilence(request: FastifyRequest): Disposable {
  const { socket } = request.raw;
  const cut = () => socket.destroy();
  socket.setTimeout(silenceMs, cut);
  return {
    [Symbol.dispose]() {
      socket.setTimeout(0);
      socket.off('timeout', cut);
    },
  };
}
