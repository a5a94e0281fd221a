/** WebSockets that belong to one life of a sandbox. */
import type { WebSocket } from '@fastify/websocket';
import { PerchError } from '@perch/protocol';
import type { FastifyRequest } from 'fastify';
import type { Services } from '../../http/index.ts';
import type { Life } from '../../sandboxes/index.ts';
import { checkOrigin } from '../access.ts';

/**
 * The handlers of a route that is a WebSocket: it is refused as any call before the upgrade, and holds its life after it.
 * @param name for messages and the log, such as `exec/stream`
 * @param run resolves when the connection is over; one that fails is cut
 * @param check throws why it is refused, beside what holds for all
 */
export function onLife(
  name: string,
  { sandboxes }: Pick<Services, 'sandboxes'>,
  run: (socket: WebSocket, life: Life, request: FastifyRequest) => Promise<void>,
  check: (life: Life, request: FastifyRequest) => void = () => {},
) {
  const lives = new WeakMap<object, Life>();

  async function hold(socket: WebSocket, request: FastifyRequest): Promise<void> {
    const life = lives.get(request);
    if (!life) return socket.terminate();
    using _ = sandboxes.hold(life);
    try {
      await run(socket, life, request);
    } catch (error) {
      request.log.warn({ err: error }, `${name} broke`);
      socket.terminate();
    }
  }

  return {
    async preHandler(request: FastifyRequest) {
      checkOrigin(request);
      const life = await sandboxes.ready((request.params as { id: string }).id, request.id);
      check(life, request);
      lives.set(request, life);
    },
    async handler() {
      throw new PerchError('malformed_request', `${name} needs a WebSocket.`, { reason: 'no upgrade' });
    },
    wsHandler(socket: WebSocket, request: FastifyRequest) {
      void hold(socket, request);
    },
  };
}
