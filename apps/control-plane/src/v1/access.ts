import { PerchError } from '@perch/protocol';
import type { FastifyRequest } from 'fastify';
import type { Gate, Services } from '../http/index.ts';

/** A key in the header `X-API-Key`, or for some routes a ticket in the URL. */
export function createGate({ keys, tickets }: Services): Gate {
  return {
    caller(request) {
      const key = request.headers['x-api-key'];
      if (key !== undefined || request.routeOptions.config.access !== 'ticket') return keys.verify(key);
      const { ticket } = request.query as Record<string, unknown>;
      const { id } = request.params as Record<string, string>;
      const caller = tickets.redeem(String(ticket), String(id));
      return caller && keys.isValid(caller.keyId) ? caller : undefined;
    },
    refusal(request) {
      const given = request.headers['x-api-key'] !== undefined;
      const { access } = request.routeOptions.config;
      if (access === 'ticket' && !given && 'ticket' in (request.query as object)) {
        return new PerchError('ticket_invalid', 'The ticket is not valid, or no longer.', {});
      }
      const message = given ? 'The API key is not valid.' : 'The X-API-Key header is missing.';
      return new PerchError('unauthorized', message, {});
    },
  };
}

/** A page of another site must not open a connection with what the browser holds for this one. */
export function checkOrigin(request: FastifyRequest): void {
  const { origin, host } = request.headers;
  if (origin === undefined) return;
  if (URL.canParse(origin) && new URL(origin).host === host) return;
  throw new PerchError('origin_refused', `Pages of ${origin.slice(0, 200)} may not connect here.`, {
    origin: origin.slice(0, 200),
  });
}
