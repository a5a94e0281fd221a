/** Errors in E2B's form, whose clients go by the number in the body. */
import { type ErrorCode, errorStatus, isPerchError, PerchError } from '@perch/protocol';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { sendError, toPerchError } from '../http/index.ts';

export interface E2bError {
  code: number;
  message: string;
  error_code?: string;
}

/** Status of each code: that of Perch where E2B's clients know it. */
const statuses: Record<ErrorCode, number> = {
  ...errorStatus,
  // 502 is said by the edge alone, of a sandbox that is not there.
  guest_unavailable: 503,
  port_closed: 503,
  guest_protocol: 500,
  transfer_interrupted: 503,
  host_disk_full: 503,
  disk_full: 503,
  exec_timeout: 503,
  method_not_allowed: 404,
  sandbox_not_paused: 409,
  // It runs on.
  pause_failed: 503,
};

/** Names that programs branch on. */
const names: Partial<Record<ErrorCode, string>> = {
  capacity_exhausted: 'sandbox_capacity_unavailable',
  host_disk_full: 'sandbox_capacity_unavailable',
  idempotency_mismatch: 'idempotency_request_mismatch',
  internal: 'internal_server_error',
};

/** Codes of which a repeat of the same call comes to the same. */
const lasting: ReadonlySet<ErrorCode> = new Set(['capacity_exhausted', 'host_disk_full']);

export function toE2bError(error: PerchError): E2bError {
  const name = names[error.code];
  const code = statuses[error.code];
  return { code, message: error.message, ...(name === undefined ? {} : { error_code: name }) };
}

/** @param once of a call that makes something: it may be there though the answer says otherwise */
export function sendE2bError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const error = toPerchError(thrown, request);
  const body = toE2bError(error);
  const { once } = request.routeOptions.config;
  // E2B's Python client sends each call again on such a status, unless it is told.
  const retried = body.code === 429 || body.code >= 500;
  if (retried && !isPerchError(error, 'rate_limited') && (once || lasting.has(error.code))) {
    void reply.header('should-retry', 'false');
  }
  sendError(error, request, reply, { status: body.code, body });
}

/** @throws PerchError always: what was asked for is understood, and is not there */
export function refuse(field: string, why = 'is not offered by Perch'): never {
  throw new PerchError('validation_failed', `${field} ${why}.`, {
    problems: [{ where: field, message: why }],
  });
}
