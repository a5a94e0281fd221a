import { WatchQuery } from '@perch/protocol';
import type { Static } from 'typebox';
import { WatchSession } from '../../files/index.ts';
import type { Services } from '../../http/index.ts';
import { type App, IdParams, sandboxErrors } from './app.ts';
import { onLife } from './life-socket.ts';

export function addWatchRoute(app: App, services: Services): void {
  const { guests, shutdown } = services;

  app.route({
    method: 'GET',
    url: '/v1/sandboxes/:id/files/watch',
    exposeHeadRoute: false,
    config: { access: 'ticket' },
    schema: {
      summary: 'Watch a directory over a WebSocket',
      description:
        'The server sends {"type":"start"} once the directory is watched, then {"type","name"} for each change: create, ' +
        'write, remove, rename (of the old name; the new one is created) and chmod. A new file that is uploaded is ' +
        'create, chmod and write; one that is written over is write. The last message is an error, such as ' +
        'file_not_found when the directory goes, or events_lost. A ticket is one of exec/ticket. A pause ends the ' +
        'connection with an error.',
      tags: ['files'],
      params: IdParams,
      querystring: WatchQuery,
      response: {
        101: 'The WebSocket.',
        400: 'No WebSocket, or the query is wrong.',
        403: 'A page of another site.',
        ...sandboxErrors,
      } as object,
    },
    ...onLife('files/watch', services, async (socket, life, request) => {
      const session = new WatchSession(socket as never, guests.of(life), life, shutdown);
      await session.run(request.query as Static<typeof WatchQuery>);
    }),
  });
}
