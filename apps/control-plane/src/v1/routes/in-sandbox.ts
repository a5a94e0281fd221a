import type { FastifyRequest } from 'fastify';
import type { Guest } from '../../guests/index.ts';
import type { Services } from '../../http/index.ts';

/**
 * Runs a call in the sandbox that the request names, which is use of it.
 * @throws what the call throws; when the life ends under it that is the error, and not that the guest does not answer
 */
export async function inSandbox<T>(
  services: Services,
  request: FastifyRequest,
  call: (guest: Guest) => Promise<T>,
): Promise<T> {
  const life = await services.sandboxes.ready((request.params as { id: string }).id, request.id);
  using _ = services.sandboxes.hold(life);
  try {
    return await call(services.guests.of(life));
  } catch (error) {
    throw life.signal.aborted ? life.signal.reason : error;
  }
}
