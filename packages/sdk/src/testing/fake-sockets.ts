/** A server of WebSockets, for tests. */
import { type WebSocket, WebSocketServer } from 'ws';
import { Perch } from '../perch.ts';
import { fakeServer, json } from './fake-server.ts';

/** @param serve gets each connection with the address that was asked for */
export async function fakeSockets(serve: (socket: WebSocket, url: string) => void) {
  const server = await fakeServer((_request, response) => json(response, 404, {}));
  const sockets = new WebSocketServer({ server: server.server });
  const closed = Promise.withResolvers<void>();
  sockets.on('connection', (socket, request) => {
    socket.on('close', () => closed.resolve());
    serve(socket, request.url ?? '');
  });
  return {
    perch: new Perch({ url: server.url, apiKey: 'perch_x' }),
    /** Resolves when a client has gone. */
    closed: closed.promise,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets.clients) socket.terminate();
      sockets.close();
      await server[Symbol.asyncDispose]();
    },
  };
}

export const send = (socket: WebSocket, ...messages: object[]) => {
  for (const message of messages) socket.send(JSON.stringify(message));
};
