/** The bytes of files and directories, from a client into a sandbox and out of it, as they come. */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { GuestPath, PerchError } from '@perch/protocol';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { inBatches, receiveUpload, type UploadPart } from '../../files/index.ts';
import type { Guest } from '../../guests/index.ts';
import {
  breakOff,
  clientGone,
  cutSilence,
  failureTrailer,
  isGzip,
  refuseEncoding,
  type Services,
  takesTrailers,
  unsupportedMediaType,
} from '../../http/index.ts';
import { checker } from '../../validation/index.ts';
import { inSandbox } from './in-sandbox.ts';

const checkPath = checker(Type.Object({ path: GuestPath }), 'the form');

/** Writes the file of a form. */
export async function receiveForm(
  services: Services,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  if (!request.isMultipart()) throw unsupportedMediaType(request);
  refuseEncoding(request.headers, 'A form');
  await inSandbox(services, request, async (guest) => {
    using _silence = cutSilence(request.raw, reply.raw);
    const signal = clientGone(reply);
    await receiveUpload(
      wellFormed(request.parts() as AsyncIterable<UploadPart>),
      (path) => checkPath({ path }).path,
      services.spool,
      (path, data) => write(guest, path, data, services, { signal }),
    );
  });
}

/** Writes the body to a file. */
export async function receiveStream(
  services: Services,
  request: FastifyRequest,
  reply: FastifyReply,
  { path, mode, mtime }: { path: string; mode?: string | undefined; mtime?: string | undefined },
): Promise<void> {
  const gzip = isGzip(request.headers);
  await inSandbox(services, request, async (guest) => {
    using _silence = cutSilence(request.raw, reply.raw);
    const { raw } = request;
    const length = request.headers['content-length'];
    const size = length === undefined ? undefined : Number(length);
    const how = {
      signal: clientGone(reply),
      size,
      gzip,
      mode: mode === undefined ? undefined : Number.parseInt(mode, 8),
      modifiedAt: mtime,
    };
    await guest.writeFile(path, counted(inBatches(raw, size), services, 'in'), how);
  });
}

interface Sent {
  stream: Readable;
  headers: OutgoingHttpHeaders;
  /** Bytes, if known. */
  size?: number | undefined;
}

export function sendFile(
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

/** The directory as a tar stream. */
export function sendArchive(
  services: Services,
  request: FastifyRequest,
  reply: FastifyReply,
  path: string,
): Promise<FastifyReply> {
  return send(services, request, reply, async (guest, how) => ({
    stream: await guest.readArchive(path, how),
    headers: { 'content-type': 'application/x-tar' },
  }));
}

/**
 * Sends what the guest gives as it comes. A part is never taken for the whole: when it breaks off, a client that takes
 * trailers is told why in one; for any other the connection is cut, which shows by length where there is one, else by the
 * missing end of the chunks.
 */
async function send(
  services: Services,
  request: FastifyRequest,
  reply: FastifyReply,
  open: (guest: Guest, how: { signal: AbortSignal }) => Promise<Sent>,
): Promise<FastifyReply> {
  let tells = false;
  try {
    await inSandbox(services, request, async (guest) => {
      const { stream, size, headers } = await open(guest, { signal: clientGone(reply) });
      using _silence = cutSilence(request.raw, reply.raw);
      tells = size === undefined && takesTrailers(request);
      void reply
        .headers({ ...headers, ...(tells ? { trailer: failureTrailer } : {}) })
        .header('content-disposition', 'attachment')
        .header('x-content-type-options', 'nosniff');
      reply.hijack();
      reply.raw.writeHead(200, reply.getHeaders() as OutgoingHttpHeaders);
      try {
        if (request.method === 'HEAD') reply.raw.end();
        else await passOn(counted(inBatches(stream, size), services, 'out'), reply.raw);
      } finally {
        stream.destroy();
      }
    });
  } catch (error) {
    if (!reply.raw.headersSent) throw error;
    request.log.debug({ err: error }, 'a download broke off');
    using _silence = cutSilence(request.raw, reply.raw);
    if (tells && error instanceof PerchError && !reply.raw.destroyed) await breakOff(reply.raw, error);
    else reply.raw.destroy();
  }
  return reply;
}

/** Resolves when all has been given away. @throws what the source throws, with `to` open still, or why that was closed */
async function passOn(source: AsyncIterable<Buffer>, to: ServerResponse): Promise<void> {
  let broken: { error: unknown } | undefined;
  async function* upToAnError() {
    try {
      yield* source;
    } catch (error) {
      broken = { error };
    }
  }
  await pipeline(upToAnError(), to, { end: false });
  if (broken) throw broken.error;
  to.end();
  await finished(to);
}

async function* counted(
  batches: AsyncIterable<Buffer>,
  { metrics }: Services,
  direction: 'in' | 'out',
): AsyncGenerator<Buffer> {
  for await (const batch of batches) {
    metrics.transferred(direction, batch.length);
    yield batch;
  }
}

/** Passes a file on. When its source broke, that is the error, and not that the guest missed the rest. */
async function write(
  guest: Guest,
  path: string,
  data: AsyncIterable<Buffer>,
  services: Services,
  options: { signal: AbortSignal; size?: number | undefined },
): Promise<void> {
  let broken: unknown;
  async function* source(): AsyncGenerator<Buffer> {
    try {
      yield* counted(wellFormed(data), services, 'in');
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
