/** Who may ask, and how often. */
import { PerchError } from '@perch/protocol';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Caller } from '../auth/index.ts';
import type { Services } from './services.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `none`: anybody; `ticket`: a key, or a ticket in the URL. Without it: a key. */
    access?: 'none' | 'ticket';
  }
  interface FastifyRequest {
    caller: Caller | undefined;
  }
}

/** How a front knows its callers. */
export interface Gate {
  caller(request: FastifyRequest): Caller | undefined;
  /** For a request without a caller. */
  refusal(request: FastifyRequest): PerchError;
}

/** Guards the routes that are added to `app`, and what is no route of it. */
export function addAccess(app: FastifyInstance, { limits, shutdown }: Services, gate: Gate): void {
  const { perAddress, perKey, refused } = limits;
  app.addHook('onRequest', (request, _reply, done) => {
    if (shutdown.aborted) {
      throw new PerchError('shutting_down', 'perchd is shutting down.', {});
    }
    if (request.is404 || request.routeOptions.config.access === 'none') {
      limit(perAddress.take(request.ip));
    } else {
      request.caller = gate.caller(request);
      if (!request.caller) {
        limit(refused.take(request.ip));
        throw gate.refusal(request);
      }
      limit(perKey.take(request.caller.keyId));
    }
    done();
  });
}

function limit(retryAfterSec: number): void {
  if (retryAfterSec === 0) return;
  throw new PerchError('rate_limited', 'Too many requests.', { retry_after_sec: retryAfterSec });
}

/** The caller of a route that needs one. */
export function callerOn(request: FastifyRequest): Caller {
  if (!request.caller) throw new PerchError('unauthorized', 'The X-API-Key header is missing.', {});
  return request.caller;
}
