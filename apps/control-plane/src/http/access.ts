/** Who may ask, and how often. */
import { PerchError } from '@perch/protocol';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Caller } from '../auth/index.ts';
import { TokenBuckets } from './rate-limit.ts';
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

/** For one address: requests to what is public, and requests that no key opened. */
const publicLimit = { burst: 600, seconds: 10 };
const refusedLimit = { burst: 60, seconds: 60 };

export function addAccess(app: FastifyInstance, services: Services): void {
  const perKey = new TokenBuckets(services.rateLimit);
  const perAddress = new TokenBuckets(publicLimit);
  const refused = new TokenBuckets(refusedLimit);
  app.decorateRequest('caller', undefined);
  app.addHook('onRequest', (request, _reply, done) => {
    if (services.shutdown.aborted) {
      throw new PerchError('shutting_down', 'perchd is shutting down.', {});
    }
    const access = request.is404 ? 'none' : request.routeOptions.config.access;
    if (access === 'none') {
      limit(perAddress.take(request.ip));
    } else {
      request.caller = callerOf(request, services, access);
      if (!request.caller) {
        limit(refused.take(request.ip));
        throw refusal(request, access);
      }
      limit(perKey.take(request.caller.keyId));
    }
    done();
  });
}

function callerOf(
  request: FastifyRequest,
  services: Services,
  access: 'ticket' | undefined,
): Caller | undefined {
  const key = request.headers['x-api-key'];
  if (key !== undefined || access !== 'ticket') return services.keys.verify(key);
  const { ticket } = request.query as Record<string, unknown>;
  const { id } = request.params as Record<string, string>;
  const caller = services.tickets.redeem(String(ticket), String(id));
  return caller && services.keys.isValid(caller.keyId) ? caller : undefined;
}

function refusal(request: FastifyRequest, access: 'ticket' | undefined): PerchError {
  const given = request.headers['x-api-key'] !== undefined;
  if (access === 'ticket' && !given && 'ticket' in (request.query as object)) {
    return new PerchError('ticket_invalid', 'The ticket is not valid, or no longer.', {});
  }
  const message = given ? 'The API key is not valid.' : 'The X-API-Key header is missing.';
  return new PerchError('unauthorized', message, {});
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

/** A page of another site must not open a connection with what the browser holds for this one. */
export function checkOrigin(request: FastifyRequest): void {
  const { origin, host } = request.headers;
  if (origin === undefined) return;
  if (URL.canParse(origin) && new URL(origin).host === host) return;
  throw new PerchError('origin_refused', `Pages of ${origin.slice(0, 200)} may not connect here.`, {
    origin: origin.slice(0, 200),
  });
}
