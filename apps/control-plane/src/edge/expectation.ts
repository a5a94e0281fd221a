/** Clients that wait with the body of their request until they are told to go on. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { awaitsContinue } from '../http/index.ts';

const told = new WeakSet<ServerResponse>();

export function tellToGoOn(request: IncomingMessage, response: ServerResponse): void {
  if (!awaitsContinue(request) || response.headersSent || response.destroyed) return;
  told.add(response);
  response.writeContinue();
}

/**
 * To be called before the head of an answer. A client that was not told to go on may send the body all the same, or
 * another request in its place. Nobody can know what comes next on its connection, so it ends with the answer.
 */
export function endIfUnasked(request: IncomingMessage, response: ServerResponse): void {
  const begun = request.complete || request.readableDidRead || request.readableLength > 0;
  if (awaitsContinue(request) && !told.has(response) && !begun) response.shouldKeepAlive = false;
}
