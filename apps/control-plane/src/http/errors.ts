/** Every answer that is an error, also the framework's and the parser's, has the one form. */
import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { isPerchError, PerchError } from '@perch/protocol';
import type { FastifyReply, FastifyRequest } from 'fastify';

const readOnMs = 5_000;

interface FrameworkError {
  code?: unknown;
  statusCode?: unknown;
  message?: unknown;
}

export function toPerchError(thrown: unknown, request: FastifyRequest): PerchError {
  if (thrown instanceof PerchError) return thrown;
  const error = (thrown ?? {}) as FrameworkError;
  const code = typeof error.code === 'string' ? error.code : '';
  const message = typeof error.message === 'string' ? error.message : '';
  switch (code) {
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
    case 'FST_INVALID_MULTIPART_CONTENT_TYPE':
      return unsupportedMediaType(request);
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
    case 'FST_REQ_FILE_TOO_LARGE': {
      const limit = request.routeOptions.bodyLimit ?? 0;
      return new PerchError('body_too_large', `The body is larger than ${limit} bytes.`, {
        limit_bytes: limit,
      });
    }
    case 'FST_ERR_BAD_URL':
      return new PerchError('malformed_request', 'The URL is malformed.', { reason: 'malformed URL' });
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return new PerchError('malformed_body', message, { reason: message });
  }
  if (/^FST_(PARTS|FIELDS|FILES|PROTO|MP_)/.test(code)) {
    return new PerchError('malformed_body', message, { reason: message });
  }
  if (typeof error.statusCode === 'number' && error.statusCode >= 400 && error.statusCode < 500) {
    return new PerchError('malformed_request', message, { reason: message });
  }
  return new PerchError(
    'internal',
    'Something went wrong in perchd.',
    { request_id: request.id },
    { cause: thrown },
  );
}

export function unsupportedMediaType(request: FastifyRequest): PerchError {
  const type = (request.headers['content-type'] ?? 'none').slice(0, 100);
  return new PerchError('unsupported_media_type', `This route does not take the content type ${type}.`, {
    content_type: type,
  });
}

/** Seconds after which another try makes sense. */
function retryAfter(error: PerchError): number | undefined {
  if (isPerchError(error, 'rate_limited')) return error.details.retry_after_sec;
  if (error.code === 'capacity_exhausted') return 5;
  return error.status === 503 ? 1 : undefined;
}

/** @param form of a front that has one of its own */
export function sendError(
  thrown: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  form?: { status: number; body: object },
): void {
  const error = toPerchError(thrown, request);
  if (error.status >= 500) {
    request.log[error.code === 'internal' ? 'error' : 'warn'](
      { err: error.cause ?? error, code: error.code },
      error.message,
    );
  }
  const seconds = retryAfter(error);
  if (seconds !== undefined) void reply.header('retry-after', String(seconds));
  // RFC 9110, 15.5.16: it tells a wrong encoding from a wrong type.
  if (isPerchError(error, 'unsupported_media_type') && error.details.accept_encoding !== undefined) {
    void reply.header('accept-encoding', error.details.accept_encoding);
  }
  if (!request.raw.complete) {
    // Fastify would close the connection under what is still sent.
    void reply.removeHeader('connection');
    readOn(request.raw);
  }
  const { status, body } = form ?? { status: error.status, body: error.toBody() };
  void reply.code(status).type('application/json; charset=utf-8').send(JSON.stringify(body));
}

/**
 * Takes the rest of a body that nobody wants. A connection that is closed while the client still sends is reset,
 * and the answer is lost with it; so it is only cut when the rest takes long.
 */
function readOn(request: IncomingMessage): void {
  request.unpipe();
  request.resume();
  const late = setTimeout(() => request.socket.destroy(), readOnMs);
  request.once('close', () => clearTimeout(late));
}

/** Answers what the HTTP parser could not read as a request. */
export function sendParserError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const perch =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new PerchError('headers_too_large', 'The headers are too large.', {})
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? new PerchError('request_timeout', 'The request did not come in time.', {})
        : new PerchError('malformed_request', 'This is no HTTP request.', { reason: error.message });
  const body = JSON.stringify(perch.toBody());
  socket.end(
    `HTTP/1.1 ${perch.status} ${STATUS_CODES[perch.status]}\r\n` +
      'Content-Type: application/json; charset=utf-8\r\n' +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}
