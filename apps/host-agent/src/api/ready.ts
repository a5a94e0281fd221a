/** Calls about guests that stand ready. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { HostPinReady, ReadyGuests, ReadyGuestsList } from '@perch/protocol';
import type { Lifecycle } from '../lifecycle/index.ts';
import { errors } from './snapshots.ts';

export function readyRoutes({ ready }: Lifecycle): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get('/v1/ready', { schema: { response: { 200: ReadyGuestsList, ...errors } } }, () => ({
      items: ready.list(),
    }));

    app.put(
      '/v1/ready',
      { schema: { body: HostPinReady, response: { 200: ReadyGuests, ...errors } } },
      (request) => {
        request.log.info({ ready: request.body }, 'pin ready guests');
        return ready.pin(request.body);
      },
    );
  };
}
